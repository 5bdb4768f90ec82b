"""Canary clients for somebody else's strategy: replies that no node sent, put beside the real ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.design import coin_flips
from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Unit


@dataclass(frozen=True, slots=True)
class CanaryPlan:
    """`count` canary clients, each in the training by its own fair coin and in a round with chance `sample_rate`.

    One that takes part sends an update of `strength` times `clip` along a direction of its own, weighted like a typical
    client. `clip` is the strategy's clipping norm, or without clipping the size of a natural update. One whose coin
    says out is `absent`: "silent" sends nothing (add-remove), "zero" next to nothing (zero-out), for strategies that
    insist on a number of replies. Directions share no coordinate: canary i owns every coordinate that a seeded draw
    gives it, with random signs, so they are orthogonal and cost one vector of memory in all.
    """

    count: int
    clip: float
    sample_rate: float = 1.0
    strength: float = 10.0
    absent: Literal["silent", "zero"] = "silent"

    def __post_init__(self) -> None:
        if self.count < 10:
            raise ConfigError(f"canaries: at least 10 are needed to certify anything, got {self.count}")
        if not (self.clip > 0 and math.isfinite(self.clip) and self.strength >= 1 and 0 < self.sample_rate <= 1):
            raise ConfigError(
                "canaries: needs clip > 0, strength >= 1 and 0 < sample_rate <= 1, "
                f"got {self.clip}, {self.strength}, {self.sample_rate}"
            )
        if self.absent not in ("silent", "zero"):
            raise ConfigError(f"canaries: absent must be 'silent' or 'zero', got {self.absent!r}")

    @property
    def ids(self) -> tuple[str, ...]:
        """A stable id per canary."""
        return tuple(f"canary-{i}" for i in range(self.count))

    def coins(self, seeds: Seeds) -> BoolArray:
        """Who is in, (count,)."""
        inside: BoolArray = coin_flips(self.ids, 1, seeds=seeds.at("coins"), unit=Unit.CLIENT).inside[0]
        return inside

    def taking_part(self, round_number: int, seeds: Seeds) -> NDArray[np.int64]:
        """Which canaries a round asks, whatever their coins say."""
        drawn = seeds.at("canaries", round_number).generator().random(self.count) < self.sample_rate
        return np.flatnonzero(drawn)


@dataclass(frozen=True, slots=True)
class Directions:
    """The canaries' directions in `dimension` coordinates: `owner` (dimension,) and `signs` (dimension,) +-1."""

    owner: NDArray[np.int64]
    signs: NDArray[np.float32]
    lengths: NDArray[np.float64]

    @classmethod
    def draw(cls, plan: CanaryPlan, dimension: int, *, seeds: Seeds) -> Directions:
        """Raises `ConfigError` where there are more canaries than coordinates."""
        if plan.count > dimension:
            raise ConfigError(
                f"canaries: {plan.count} need as many parameters, the model has {dimension}: use fewer canaries"
            )
        generator = seeds.at("directions").generator()
        owner = generator.permutation(np.arange(dimension) % plan.count)
        signs = generator.choice(np.array([-1, 1], np.float32), dimension)
        return cls(owner, signs, np.sqrt(np.bincount(owner, minlength=plan.count).astype(np.float64)))

    def update(self, canary: int, norm: float) -> NDArray[np.float32]:
        """The update (dimension,) of L2 norm `norm` along a canary's direction."""
        size = np.float32(norm / self.lengths[canary])
        return np.where(self.owner == canary, self.signs * size, np.float32(0))

    def project(self, vector: NDArray[np.floating]) -> NDArray[np.float64]:
        """The inner products (count,) of a vector (dimension,) with all directions."""
        weights = np.asarray(vector, np.float64) * self.signs
        return np.bincount(self.owner, weights, minlength=len(self.lengths)) / self.lengths
