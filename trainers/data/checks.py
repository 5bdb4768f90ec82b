"""What is wrong with a table: errors that stop the audit, and warnings that stand in its report."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.types import BoolArray, Rows
from .table import Images, Table, Tabular

MINIMUM_ROWS = 20
IMBALANCE = 10
CROWDED = 0.05
MANY_LEVELS = 200


def checked(table: Table) -> Table:
    """`table` with its warnings. Too few rows, one class only, labels out of range, non-finite values are errors."""
    if len(table) < MINIMUM_ROWS:
        raise ConfigError(f"data {table.name!r}: {len(table)} rows are too few, at least {MINIMUM_ROWS} are needed")
    _check_labels(table)
    if isinstance(table.content, Tabular):
        _check_finite(table.content.numeric, table.content.numeric_names, table)
    elif isinstance(table.content, Images) and table.content.pixels.dtype.kind == "f":
        flat = table.content.pixels.reshape(len(table), -1)
        _check_finite(flat, [f"pixel {i}" for i in range(flat.shape[1])], table, missing=False)
    found = [*_duplicate_warnings(table), *_constant_warnings(table), *_class_warnings(table), *_level_warnings(table)]
    return replace(table, warnings=(*table.warnings, *found))


def duplicate_groups(rows: Rows | Table) -> NDArray[np.int64]:
    """For each record the position of the first record with the same features (labels apart): int64 (records,).

    Two records are exact duplicates where the numbers agree. Equal means equal in every bit, 0.0 and -0.0 alike.
    """
    first: dict[bytes, int] = {}
    digests = (hashlib.blake2b(row, digest_size=16).digest() for row in _row_bytes(rows))
    return np.array([first.setdefault(digest, i) for i, digest in enumerate(digests)], np.int64)


def straddling(groups: NDArray[np.int64], inside: BoolArray) -> BoolArray:
    """Whether a record has a duplicate on the other side of `inside` (records,): such a pair blurs membership."""
    n = len(groups)
    members = np.bincount(groups, weights=inside, minlength=n)
    total = np.bincount(groups, minlength=n)
    mixed: BoolArray = (members > 0) & (members < total)
    return mixed[groups]


def check_finite(features: NDArray[Any], names: tuple[str, ...], records: tuple[str, ...], name: str) -> None:
    """Raise `ConfigError` with column and record id where encoded `features` (records, columns) are not finite."""
    bad = ~np.isfinite(features)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ConfigError(
            f"data {name!r}: column {names[column]!r} of record {records[row]} is {features[row, column]} as float32; "
            "remove the record or rescale the column"
        )


def _check_labels(table: Table) -> None:
    bad = np.flatnonzero((table.labels < 0) | (table.labels >= len(table.classes)))
    if len(bad):
        raise ConfigError(
            f"data {table.name!r}: label {table.labels[bad[0]]} of record {table.records[bad[0]]} is outside "
            f"[0, {len(table.classes)})"
        )
    if table.labelled and len(np.unique(table.labels)) < 2:
        only = table.classes[int(table.labels[0])]
        raise ConfigError(
            f"data {table.name!r}: all {len(table)} rows are of class {only!r}; at least 2 classes are needed"
        )


def _check_finite(values: NDArray[Any], names: tuple[str, ...] | list[str], table: Table, missing: bool = True) -> None:
    """Infinite values are errors; NaN too where it cannot mean missing."""
    bad = np.isinf(values) if missing else ~np.isfinite(values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ConfigError(
            f"data {table.name!r}: column {names[column]!r} of record {table.records[row]} is {values[row, column]}, "
            "not a finite number; correct or remove it"
        )


def _duplicate_warnings(table: Table) -> list[str]:
    groups = duplicate_groups(table)
    sizes = np.bincount(groups, minlength=len(groups))
    copies = int((sizes[sizes > 1]).sum())
    if not copies:
        return []
    differing = straddling(groups, table.labels != table.labels[groups]) & (sizes[groups] > 1)
    out = [
        f"{copies} records have the same features as another (groups: {int((sizes > 1).sum())}; records in groups "
        f"whose labels differ: {int(differing.sum())}); a group stays on one side of the split"
    ]
    if sizes.max() > CROWDED * len(table):
        out.append(
            f"the largest group of identical records is {int(sizes.max())} of {len(table)}: records are hardly distinct"
        )
    return out


def _constant_warnings(table: Table) -> list[str]:
    if not isinstance(table.content, Tabular):
        return []
    content = table.content
    # min and max are NaN where any value is missing: a gap is information, unless there is nothing but gaps.
    same = content.numeric.min(axis=0) == content.numeric.max(axis=0)
    same |= np.isnan(content.numeric).all(axis=0)
    constant = [name for name, one in zip(content.numeric_names, same, strict=True) if one]
    constant += [n for n, c in zip(content.categorical_names, content.codes.T, strict=True) if (c == c[0]).all()]
    if not constant:
        return []
    shown = ", ".join(repr(n) for n in constant[:5]) + (", ..." if len(constant) > 5 else "")
    return [f"{len(constant)} columns have one value only: {shown}"]


def _class_warnings(table: Table) -> list[str]:
    if not table.labelled:
        return []
    counts = np.bincount(table.labels, minlength=len(table.classes))
    out, empty = [], int((counts == 0).sum())
    if empty:
        first = table.classes[int(counts.argmin())]
        out.append(f"{empty} of {len(counts)} classes have no record (first: {first!r})")
    present = counts[counts > 0]
    if present.max() >= IMBALANCE * present.min():
        small, large = (table.classes[int(np.flatnonzero(counts == c)[0])] for c in (present.min(), present.max()))
        out.append(f"classes are unbalanced: {small!r} has {present.min()} records, {large!r} has {present.max()}")
    return out


def _level_warnings(table: Table) -> list[str]:
    if not isinstance(table.content, Tabular):
        return []
    pairs = zip(table.content.categorical_names, table.content.levels, strict=True)
    return [
        f"column {name!r} has {len(levels)} categories, each a feature; if it identifies people, data.drop it"
        for name, levels in pairs
        if len(levels) > MANY_LEVELS
    ]


def _row_bytes(rows: Rows | Table) -> Iterator[bytes]:
    if isinstance(rows, Table):
        return rows.content.row_bytes()
    flat = rows.features.reshape(len(rows), -1) + 0
    return (row.tobytes() for row in flat)
