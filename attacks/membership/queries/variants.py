"""Variants of records: shifts and mirror images of pictures, noise on tables. The same for every model asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ....audit.errors import IncompatibleError
from ....audit.seeds import Seeds
from ...parameters import require_choice, require_integer, require_number

Kind = Literal["auto", "shift", "flip", "noise"]
KINDS = ("auto", "shift", "flip", "noise")


@dataclass(frozen=True, slots=True)
class Variants:
    """`count` variants of a record, the record itself first.

    `shift`: moved by whole pixels, nearest moves first, the border repeated (Choquette-Choo et al. 2021, arXiv
    2007.14321). `flip`: every move twice, plain and mirrored left to right, 18 views in all with `count` 18. `noise`:
    every number gets Gaussian noise of `strength` standard deviations of its column; a column of two values is drawn
    again from its own frequencies with probability `strength`. `auto` is `shift` for pictures and `noise` for tables.
    """

    count: int
    kind: Kind
    strength: float

    def __post_init__(self) -> None:
        require_integer("augmented", "count", self.count, least=1)
        require_choice("augmented", "kind", self.kind, KINDS)
        require_number("augmented", "strength", self.strength, low=0.0, high=1.0)

    def of(self, features: NDArray[Any], *, seeds: Seeds) -> Iterator[NDArray[Any]]:
        """One array like `features` (records, ...) a variant. `IncompatibleError` where the records do not allow it."""
        kind = resolved(self.kind, features)
        if kind == "noise":
            yield from self._noisy(features, seeds)
            return
        mirrored = (False, True) if kind == "flip" else (False,)
        for number in range(self.count):
            move, mirror = moves(self.count)[number // len(mirrored)], mirrored[number % len(mirrored)]
            yield shifted(features[..., ::-1] if mirror else features, *move)

    def _noisy(self, features: NDArray[Any], seeds: Seeds) -> Iterator[NDArray[Any]]:
        flat = features.reshape(len(features), -1)
        low, high = flat.min(axis=0), flat.max(axis=0)
        two_valued = ((flat == low) | (flat == high)).all(axis=0) & (high > low)
        share = (flat == high).mean(axis=0)
        spread = np.where(two_valued, 0.0, flat.std(axis=0, dtype=np.float64)).astype(np.float32)
        yield features
        for number in range(1, self.count):
            generator = seeds.at("noise", number).generator()
            noise = generator.standard_normal(flat.shape, dtype=np.float32) * np.float32(self.strength) * spread
            drawn = np.where(generator.random(flat.shape, dtype=np.float32) < share, high, low)
            again = (generator.random(flat.shape, dtype=np.float32) < self.strength) & two_valued
            yield np.where(again, drawn, flat + noise).astype(features.dtype).reshape(features.shape)


def resolved(kind: Kind, features: NDArray[Any]) -> Literal["shift", "flip", "noise"]:
    """The kind that `auto` stands for. Refuses tokens, and pictures' variants of what is no picture."""
    if not np.issubdtype(features.dtype, np.floating):
        raise IncompatibleError(
            f"variants of records need numbers, got {features.dtype} features (tokens): use an attack without variants"
        )
    picture = features.ndim >= 3
    if kind == "auto":
        return "shift" if picture else "noise"
    if kind != "noise" and not picture:
        raise IncompatibleError(
            f"kind {kind!r} needs pictures (channels, height, width) or (height, width), got records of shape "
            f"{features.shape[1:]}: use kind = 'noise'"
        )
    return kind


def moves(count: int) -> list[tuple[int, int]]:
    """The `count` shortest moves (down, right) by |down| + |right|, the standstill first."""
    reach = 0
    while 2 * reach * (reach + 1) + 1 < count:
        reach += 1
    grid = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1) if abs(y) + abs(x) <= reach]
    return sorted(grid, key=lambda move: (abs(move[0]) + abs(move[1]), move))[:count]


def shifted(pictures: NDArray[Any], down: int, right: int) -> NDArray[Any]:
    """Pictures (..., height, width) moved by whole pixels; what comes in repeats the border."""
    height, width = pictures.shape[-2:]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return np.ascontiguousarray(pictures[..., rows[:, None], columns])
