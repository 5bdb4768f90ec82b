"""Audit rows and population rows: who may become a member, and what is public."""

from __future__ import annotations

import numpy as np

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray
from .checks import duplicate_groups
from .table import Table

AUDIT_SHARE = 2 / 3


def split(table: Table, audit_records: int | None = None, *, seeds: Seeds) -> BoolArray:
    """Which rows are audit rows (candidate members); the rest is population, never trained on and public.

    Uniformly at random, `audit_records` of them (two thirds when None). Records with identical features stay on one
    side: groups are taken in random order while they fit, so the number is missed only where large groups leave a gap.
    """
    count = len(table)
    wanted = round(AUDIT_SHARE * count) if audit_records is None else audit_records
    if not 1 <= wanted <= count:
        raise ConfigError(
            f"design.audit_records must lie in [1, {count}], the rows of data {table.name!r}; got {wanted}"
        )
    groups = duplicate_groups(table)
    sizes = np.bincount(groups, minlength=count)
    audit, room = np.zeros(count, np.bool_), wanted
    order = seeds.at("split").generator().permutation(np.flatnonzero(sizes))
    for group in order:
        if sizes[group] <= room:
            audit[group] = True
            room -= int(sizes[group])
    return audit[groups]
