"""Outputs of any mechanism as rows of a table: numbers stay numbers, everything else becomes a category."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .types import FloatArray, IntArray

NUMBER, ABSENT, UNSEEN, FIRST_CATEGORY = 0, 1, 2, 3
"""Codes of a cell: a number, nothing (a shorter output), a category that the training outputs did not have."""


@dataclass(frozen=True, slots=True)
class Table:
    """`values` float (runs, width), 0 where a cell is no number; `codes` int (runs, width) says what a cell is."""

    values: FloatArray
    codes: IntArray


@dataclass(frozen=True, slots=True)
class Encoder:
    """How outputs become a `Table`: learned from training outputs, so that a test row depends on nothing else."""

    width: int
    low: FloatArray
    high: FloatArray
    vocabulary: Mapping[str, int]

    @classmethod
    def fit(cls, outputs: Sequence[Any]) -> Encoder:
        """The width of the longest output, the range of each column and the categories seen."""
        rows = [list(_cells(output)) for output in outputs]
        width = max((len(row) for row in rows), default=0)
        words = sorted({cell for row in rows for cell in row if isinstance(cell, str)})
        vocabulary = {word: FIRST_CATEGORY + i for i, word in enumerate(words)}
        unbounded = cls(width, np.full(width, -np.inf), np.full(width, np.inf), vocabulary)
        table = unbounded._encode(rows)
        present = (table.codes == NUMBER) & np.isfinite(table.values)
        low = np.where(present, table.values, np.inf).min(axis=0, initial=np.inf)
        high = np.where(present, table.values, -np.inf).max(axis=0, initial=-np.inf)
        empty = low > high
        return cls(width, np.where(empty, 0.0, low), np.where(empty, 0.0, high), vocabulary)

    def encode(self, outputs: Sequence[Any]) -> Table:
        """One row an output. Numbers are clipped to the training range, cells beyond the training width dropped."""
        return self._encode([list(_cells(output)) for output in outputs])

    def _encode(self, rows: Sequence[Sequence[float | str]]) -> Table:
        values = np.zeros((len(rows), self.width))
        codes = np.full((len(rows), self.width), ABSENT, dtype=np.int64)
        for i, row in enumerate(rows):
            for j, cell in enumerate(row[: self.width]):
                if isinstance(cell, str):
                    codes[i, j] = self.vocabulary.get(cell, UNSEEN)
                else:
                    values[i, j] = cell
                    codes[i, j] = NUMBER
        return Table(np.where(codes == NUMBER, np.clip(values, self.low, self.high), 0.0), codes)


def quantile_bins(column: FloatArray, bins: int) -> FloatArray:
    """Inner edges that split `column` into at most `bins` parts of about equal count."""
    if not len(column):
        return np.empty(0)
    distinct = np.unique(column)
    if len(distinct) <= bins:
        return (distinct[1:] + distinct[:-1]) / 2
    return np.unique(np.quantile(column, np.arange(1, bins) / bins))


def row_keys(table: Table, edges: Sequence[FloatArray]) -> list[bytes]:
    """A hashable key a row: its codes, and the bin of each number."""
    binned = table.codes.astype(np.int64)
    offset = int(table.codes.max(initial=0)) + FIRST_CATEGORY
    for j, edge in enumerate(edges):
        is_number = table.codes[:, j] == NUMBER
        binned[is_number, j] = -1 - np.searchsorted(edge, table.values[is_number, j], side="right")
    return [row.tobytes() for row in np.minimum(binned, offset)]


def _cells(output: Any) -> Iterable[float | str]:
    """The cells of one output, depth first: floats, and strings for all that is no number."""
    if isinstance(output, str | bytes):
        yield repr(output)
    elif isinstance(output, np.ndarray):
        yield from _cells(output.tolist())
    elif isinstance(output, Mapping):
        for key in sorted(output, key=repr):
            yield repr(key)
            yield from _cells(output[key])
    elif isinstance(output, set | frozenset):
        yield from _cells(sorted(output, key=repr))
    elif isinstance(output, Iterable):
        for part in output:
            yield from _cells(part)
    elif isinstance(output, numbers.Real) and not math.isnan(output):
        yield float(output)
    else:
        yield repr(output)
