"""What clients send after local training: score deltas, sampled bits, or the most informative flips; and its size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds

if TYPE_CHECKING:
    from .rules import Rule

UploadKind = Literal["scores", "bits", "flips"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Upload:
    """`scores`: the change of all scores. `bits`: one bit a weight, drawn from sigmoid(score) under rule "bernoulli",
    thresholded otherwise (FedPM, Isik et al. 2023, arXiv 2209.15328). `flips`: -1, 0 or 1 a weight, where the client's
    mask differs from the global one, at most `budget` of them, those whose score moved most (after DeltaMask, Ramos et
    al. 2023, arXiv 2311.17299). `clamp` keeps the chance of every bit in [1/2 - clamp, 1/2 + clamp]."""

    kind: UploadKind = "bits"
    budget: int | None = None
    clamp: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("scores", "bits", "flips"):
            raise ConfigError(f"upload must be 'scores', 'bits' or 'flips', got {self.kind!r}")
        if (self.kind == "flips") != (self.budget is not None):
            raise ConfigError(f"flip_budget goes with upload 'flips', got {self.budget} with {self.kind!r}")
        if self.budget is not None and self.budget < 1:
            raise ConfigError(f"flip_budget must be at least 1, got {self.budget}")
        if self.clamp is not None and self.kind != "bits":
            raise ConfigError(f"clamp goes with upload 'bits', got upload {self.kind!r}")
        if self.clamp is not None and not 0 < self.clamp < 0.5:
            raise ConfigError(f"clamp must lie in (0, 1/2), got {self.clamp}")

    def of(self, before: Floats, after: Floats, rule: Rule, *, seeds: Seeds) -> Floats:
        """What a client sends (d,) whose scores went from `before` to `after`; `seeds` are `client_seeds`."""
        if self.kind == "scores":
            return after - before
        if self.kind == "flips":
            assert self.budget is not None
            return flips(before, after, self.budget)
        if not rule.samples and self.clamp is None:
            return (after > 0).astype(np.float64)
        theta = expit(after) if rule.samples else (after > 0).astype(np.float64)
        return sampled_bits(theta, self.clamp, seeds=seeds)

    def bits_sent(self, dimension: int, used: float) -> float:
        """Bits on the wire of one upload: 32 a score, 1 a bit, and for each of `used` flips its place and its sign,
        after their number, or two bits a weight where that is less."""
        if self.kind == "scores":
            return 32.0 * dimension
        if self.kind == "bits":
            return float(8 * math.ceil(dimension / 8))
        return 32.0 + min(used * (math.ceil(math.log2(max(dimension, 2))) + 1), 2.0 * dimension)


def sampled_bits(theta: Floats, clamp: float | None, *, seeds: Seeds) -> Floats:
    """One Bernoulli draw (d,) of each chance `theta` (d,), clamped first: clamping after the draw, or not at all, is
    not private."""
    if clamp is not None:
        theta = np.clip(theta, 0.5 - clamp, 0.5 + clamp)
    drawn: NDArray[np.bool_] = seeds.at("bits").generator().random(len(theta)) < theta
    return drawn.astype(np.float64)


def flips(before: Floats, after: Floats, budget: int) -> Floats:
    """1 where a bit came on, -1 where one went off, at the `budget` places of largest score change among them, else 0:
    at most `budget` entries of size 1, so L2 norm at most sqrt(budget)."""
    changed = np.flatnonzero((before > 0) != (after > 0))
    size = np.abs(after[changed] - before[changed])
    kept = changed[np.argsort(-size, kind="stable")[:budget]]
    out = np.zeros(len(before))
    out[kept] = np.where(after[kept] > 0, 1.0, -1.0)
    return out


def entropy_of(bits: Floats) -> float:
    """Bits a weight that an ideal coder would need for this mask, from its share of ones: at most 1."""
    share = float(np.mean(bits))
    if share in (0.0, 1.0):
        return 0.0
    return float(-share * math.log2(share) - (1 - share) * math.log2(1 - share))
