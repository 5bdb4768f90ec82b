"""`Table`: records as read, before anything is fitted. Its content is one of `Tabular`, `Images`, `Texts`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError, IncompatibleError

UNLABELLED: tuple[str, ...] = ("(unlabelled)",)
"""The class names of a table without labels (plain text): one class that means nothing."""


@dataclass(frozen=True, slots=True)
class Tabular:
    """Numeric columns and categorical columns.

    `numeric` is (records, columns) float with NaN for missing. `codes` is (records, columns) int32, an index into that
    column's `levels`, -1 for missing.
    """

    numeric: NDArray[np.floating[Any]]
    numeric_names: tuple[str, ...]
    codes: NDArray[np.int32]
    categorical_names: tuple[str, ...] = ()
    levels: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.numeric)

    def take(self, positions: NDArray[np.intp]) -> Tabular:
        """The rows at `positions`."""
        return replace(self, numeric=self.numeric[positions], codes=self.codes[positions])

    def missing(self) -> NDArray[np.bool_]:
        """Whether a record lacks a value: bool (records,)."""
        absent: NDArray[np.bool_] = np.isnan(self.numeric).any(axis=1) | (self.codes < 0).any(axis=1)
        return absent

    def missing_column(self, position: int) -> str:
        """The first column without a value at row `position`, which has one."""
        numeric = np.flatnonzero(np.isnan(self.numeric[position]))
        if len(numeric):
            return self.numeric_names[int(numeric[0])]
        return self.categorical_names[int(np.flatnonzero(self.codes[position] < 0)[0])]

    def row_bytes(self) -> Iterator[bytes]:
        """One byte string a record, equal exactly where the records' values are equal."""
        # Adding zero turns -0.0 into 0.0; all NaNs are given one bit pattern.
        numeric = self.numeric + 0.0
        numeric[np.isnan(numeric)] = np.nan
        blocks = [np.ascontiguousarray(b).view(np.uint8) for b in (numeric, self.codes) if b.size]
        return _rows_of(np.hstack(blocks) if blocks else np.zeros((len(self), 0), np.uint8))

    def describe(self) -> str:
        """The schema, for the fingerprint."""
        return repr((self.numeric_names, self.categorical_names, self.levels))


@dataclass(frozen=True, slots=True)
class Images:
    """`pixels` (records, channels, height, width), to be divided by `scale`, a constant known before any data."""

    pixels: NDArray[Any]
    scale: float

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, positions: NDArray[np.intp]) -> Images:
        """The images at `positions`."""
        return replace(self, pixels=self.pixels[positions])

    def missing(self) -> NDArray[np.bool_]:
        """No pixel is ever missing: bool (records,)."""
        return np.zeros(len(self), np.bool_)

    def missing_column(self, position: int) -> str:
        """Never asked for."""
        raise IndexError(position)

    def row_bytes(self) -> Iterator[bytes]:
        """One byte string a record, equal exactly where the pixels are equal."""
        return _rows_of(self.pixels.reshape(len(self), -1).view(np.uint8))

    def describe(self) -> str:
        """Shape and scale, for the fingerprint."""
        return repr((self.pixels.dtype.str, self.pixels.shape[1:], self.scale))


@dataclass(frozen=True, slots=True)
class Texts:
    """One text a record; empty text is a missing value. `column` is its name in messages."""

    values: tuple[str, ...]
    column: str = "text"

    def __len__(self) -> int:
        return len(self.values)

    def take(self, positions: NDArray[np.intp]) -> Texts:
        """The texts at `positions`."""
        return replace(self, values=tuple(self.values[i] for i in positions))

    def missing(self) -> NDArray[np.bool_]:
        """Whether the text is empty: bool (records,)."""
        return np.array([not value for value in self.values], np.bool_)

    def missing_column(self, _position: int) -> str:
        """The text column."""
        return self.column

    def row_bytes(self) -> Iterator[bytes]:
        """One byte string a record, equal exactly where the texts are equal."""
        return (value.encode("utf-8", "surrogatepass") for value in self.values)

    def describe(self) -> str:
        """The kind of content, for the fingerprint."""
        return "text"


Content = Tabular | Images | Texts


@dataclass(frozen=True, slots=True)
class Table:
    """Records as read: nothing is scaled or encoded yet.

    `labels` int64 (records,) index `classes`; -1, a missing label, only until `load_table` has finished. `records` are
    stable ids. `groups` names the user of each record. `noisy` are the ids whose label was changed by label noise.
    `warnings` hold counts, never ids: they are printed in reports.
    """

    name: str
    content: Content
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    records: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    noisy: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.records)
        if len(self.content) != n or len(self.labels) != n:
            raise IncompatibleError(
                f"data {self.name!r}: {len(self.content)} records, {len(self.labels)} labels, {n} record ids"
            )
        if len(set(self.records)) < n:
            raise ConfigError(f"data {self.name!r}: record id {_first_repeated(self.records)!r} occurs more than once")

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labelled(self) -> bool:
        """Whether the records have labels; plain text has none."""
        return self.classes != UNLABELLED

    def take(self, positions: NDArray[np.intp]) -> Table:
        """The records at `positions`; ids stay theirs."""
        groups = None if self.groups is None else tuple(self.groups[i] for i in positions)
        return replace(
            self,
            content=self.content.take(positions),
            labels=self.labels[positions],
            records=tuple(self.records[i] for i in positions),
            groups=groups,
        )

    def fingerprint(self) -> str:
        """A digest of schema, values, labels, class names, groups, ids and their order, whatever the path."""
        digest = hashlib.sha256()
        for text in (self.content.describe(), repr(self.classes), repr(self.groups)):
            digest.update(text.encode("utf-8", "surrogatepass") + b"\x1e")
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        digest.update("\x1f".join(self.records).encode("utf-8", "surrogatepass"))
        for row in self.content.row_bytes():
            digest.update(len(row).to_bytes(8, "big") + row)
        return digest.hexdigest()


def position_ids(count: int, prefix: str = "") -> tuple[str, ...]:
    """`row-000000`, ... for rows in file order, so that no later step can rename a record."""
    return tuple(f"{prefix}row-{i:06d}" for i in range(count))


def tabular(numeric: NDArray[np.floating[Any]], names: Sequence[str] | None = None) -> Tabular:
    """A purely numeric content from a (records, columns) array; columns are called x0, x1, ... unless named."""
    columns = tuple(names) if names is not None else tuple(f"x{i}" for i in range(numeric.shape[1]))
    return Tabular(numeric, columns, np.zeros((len(numeric), 0), np.int32))


def _first_repeated(ids: Sequence[str]) -> str:
    seen: set[str] = set()
    return next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]


def _rows_of(matrix: NDArray[np.uint8]) -> Iterator[bytes]:
    return (row.tobytes() for row in matrix)
