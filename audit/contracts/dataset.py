"""The contract of data sets: the same table each time, with unique ids, that can be split and encoded."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..registry import PARTS
from ..seeds import Seeds
from ..types import Rows
from .failure import require


def check_dataset(name: str, *, seeds: Seeds, **settings: Any) -> None:
    """Check the data set called `name` (an entry point, or `module:attr`); `settings` are further keys of `[data]`.

    Raises `ContractError` with the first promise that is broken, and what loading itself raises.
    """
    spec = PARTS.load("data-spec").of({"name": name, **settings}, seed=seeds.integer() % 2**31)
    first, second = (PARTS.load("data")(spec) for _ in range(2))
    what = f"data set {name!r}"
    require(first.fingerprint() == second.fingerprint(), f"{what}: two readings give different tables")
    require(len(first) >= 20, f"{what}: {len(first)} records; an audit needs at least 20")
    audited = PARTS.load("split")(first, None, seeds=seeds.at("split"))
    rows = PARTS.load("encode")(first, ~audited, spec).rows
    require(isinstance(rows, Rows), f"{what}: encoding gave {type(rows).__name__}")
    require(len(set(rows.records)) == len(rows), f"{what}: record ids are not unique")
    require(bool(np.isfinite(rows.features).all()), f"{what}: encoded features are not finite")
    low, high = int(rows.labels.min()), int(rows.labels.max())
    require(low >= 0 and high < rows.classes, f"{what}: labels {low}..{high} for {rows.classes} classes")
