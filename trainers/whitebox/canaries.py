"""Gradient canaries: training rows whose per-example gradient is a known vector far above the clipping norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.design import coin_flips
from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Membership

if TYPE_CHECKING:
    from torch import Tensor

REAL, EMPTY = -1, -2
"""Slot numbers of rows that are no canary, and of canaries whose coin said out; an inserted canary has its number."""


@dataclass(frozen=True, slots=True)
class GradientCanaries:
    """`count` canaries with gradients of norm `strength` times the clipping norm in parameters of their own.

    `dirac`: canary i moves coordinate i alone, so canaries do not disturb each other (Nasr et al. 2023, arXiv
    2302.07956; Steinke, Nasr and Jagielski 2023, arXiv 2305.08846). `random`: directions uniform on the sphere in
    `dimension` coordinates, needed where one coordinate a canary is too many; with m canaries, of which a share p is in
    a step, interference costs a factor of about sqrt(1 + m p (1 - p) / (dimension sigma^2)) in signal.
    `strength` well above 1 makes missing clipping visible: at 1 a run without clipping looks correct.
    """

    count: int = 1000
    kind: Literal["dirac", "random"] = "dirac"
    dimension: int | None = None
    strength: float = 10.0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"canaries: count must be at least 1, got {self.count}")
        if self.kind not in ("dirac", "random"):
            raise ConfigError(f"canaries: kind must be 'dirac' or 'random', got {self.kind!r}")
        if self.kind == "dirac" and self.dimension not in (None, self.count):
            raise ConfigError(f"canaries: dirac canaries have dimension count = {self.count}, got {self.dimension}")
        if self.dimension is not None and self.dimension < 2:
            raise ConfigError(f"canaries: dimension must be at least 2, got {self.dimension}")
        if not self.strength >= 1:
            raise ConfigError(f"canaries: strength must be at least 1 (times the clipping norm), got {self.strength}")

    @property
    def width(self) -> int:
        """Coordinates that carry canaries."""
        return self.count if self.kind == "dirac" else self.dimension or max(2, self.count)

    @property
    def records(self) -> tuple[str, ...]:
        """Stable ids `canary-000017`."""
        return tuple(f"canary-{number:06d}" for number in range(self.count))

    def coins(self, *, seeds: Seeds) -> Membership:
        """Each canary in or out by its own fair coin, inside (1, count)."""
        return coin_flips(self.records, 1, seeds=seeds)

    def directions(self, *, seeds: Seeds, device: str) -> Tensor | None:
        """Unit vectors (count, width) float32; None for `dirac`, whose matrix is the identity and is never held."""
        if self.kind == "dirac":
            return None
        import torch

        drawn = torch.randn(self.count, self.width, generator=seeds.torch_generator())
        return torch.nn.functional.normalize(drawn, dim=1).to(device)


def slot_numbers(real_rows: int, inside: BoolArray) -> NDArray[np.int64]:
    """Slots (real_rows + canaries,) of a training set: real rows first, then one row a canary, inserted or empty.

    The number of rows is the same whatever the coins say: an excluded canary stays as a row whose gradient is zero.
    """
    numbers = np.where(inside, np.arange(len(inside)), EMPTY)
    return np.concatenate([np.full(real_rows, REAL), numbers]).astype(np.int64)
