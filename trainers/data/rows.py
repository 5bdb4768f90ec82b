"""Which rows stay: the seeded limit and the rule for missing values. Each record's fate depends on no other record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from .spec import DataSpec
from .table import Table


def chosen(count: int, spec: DataSpec) -> NDArray[np.intp]:
    """Positions that `limit` keeps, ascending: a uniform choice; a smaller limit keeps a subset of a larger one's."""
    if spec.limit is None or spec.limit >= count:
        return np.arange(count)
    order = Seeds(spec.seed).at("limit").generator().permutation(count)
    return np.sort(order[: spec.limit])


def limited(table: Table, spec: DataSpec) -> Table:
    """The rows of `table` that `limit` keeps, in their order."""
    keep = chosen(len(table), spec)
    return table if len(keep) == len(table) else table.take(keep)


def without_missing(table: Table, spec: DataSpec) -> Table:
    """Apply `missing`: drop the records that lack a value, refuse them, or keep them as a category of their own.

    A missing label is never kept. Records are dropped after `limit`, so that dropping one brings no other in.
    """
    unlabelled = table.labels < 0
    absent = unlabelled | table.content.missing()
    if not absent.any():
        return table
    if spec.missing == "drop":
        warning = f"{int(absent.sum())} of {len(table)} records with a missing value or label were dropped"
        return replace(table.take(np.flatnonzero(~absent)), warnings=(*table.warnings, warning))
    if unlabelled.any():
        first = int(np.flatnonzero(unlabelled)[0])
        raise ConfigError(
            f"data {table.name!r}: the label of record {table.records[first]} is missing "
            f"({int(unlabelled.sum())} in all); set data.missing = 'drop'"
        )
    if spec.missing == "error":
        first = int(np.flatnonzero(absent)[0])
        raise ConfigError(
            f"data {table.name!r}: column {table.content.missing_column(first)!r} of record {table.records[first]} is "
            f"missing ({int(absent.sum())} records in all); set data.missing = 'drop' or 'category'"
        )
    warning = f"{int(absent.sum())} of {len(table)} records have a missing value, kept as a category of its own"
    return replace(table, warnings=(*table.warnings, warning))
