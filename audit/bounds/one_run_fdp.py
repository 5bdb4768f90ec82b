"""`one-run-fdp`: one run against a family of trade-off curves, Gaussian or exactly DP-SGD(q, T)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from scipy import special

from ..errors import ConfigError
from .counts import GuessCounts, real
from .dp_sgd_curve import dp_sgd_curve, dp_sgd_epsilon
from .gaussian import gaussian_epsilon
from .method import Certifying
from .search import first_positive, first_power_of_two, last_true

LEAST_NOISE, MOST_NOISE = 0.125, 64.0
"""Noise multipliers between which the DP-SGD family is searched."""


@dataclass(frozen=True, slots=True)
class OneRunFdp(Certifying[GuessCounts]):
    """Epsilon at delta of the least leaky member of a family that the number of correct guesses does not reject.

    `gaussian`: mu-GDP mechanisms. `dp-sgd`: Poisson-subsampled Gaussian, `steps` compositions at `sample_rate`, indexed
    by the noise multiplier, add-remove adjacency. Within the family frequentist; says nothing about other mechanisms.
    Fair independent coins, number of guesses fixed beforehand. Mahloujifar, Melis and Chaudhuri (2024, arXiv
    2410.22235); the exact DP-SGD curve is ours, see docs/bounds/one-run-fdp.md.
    """

    family: Literal["gaussian", "dp-sgd"] = "gaussian"
    sample_rate: float | None = None
    steps: int | None = None

    name: ClassVar[str] = "one-run-fdp"
    counts_type: ClassVar[type] = GuessCounts
    needs_delta: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.family not in ("gaussian", "dp-sgd"):
            raise ConfigError(f"one-run-fdp: family must be gaussian or dp-sgd, got {self.family!r}")
        if self.family == "gaussian":
            if self.sample_rate is not None or self.steps is not None:
                raise ConfigError("one-run-fdp: the gaussian family takes no sample_rate and no steps")
            return
        if self.sample_rate is None or self.steps is None:
            raise ConfigError("one-run-fdp: the dp-sgd family needs sample_rate and steps")
        if not 0 < real("sample_rate", self.sample_rate) <= 1:
            raise ConfigError(f"one-run-fdp: sample_rate must lie in (0, 1], got {self.sample_rate}")
        if not real("steps", self.steps) >= 1 or self.steps != int(self.steps):
            raise ConfigError(f"one-run-fdp: steps must be an integer of at least 1, got {self.steps}")

    @property
    def null_class(self) -> str:
        """`gdp` or `dp-sgd(q=...,T=...)`."""
        if self.family == "gaussian":
            return "gdp"
        return f"dp-sgd(q={self.sample_rate:g},T={self.steps})"

    def epsilon_lower(self, counts: GuessCounts, *, delta: float, alpha: float) -> float:
        """Exact to 1e-9 (gaussian) or about 1e-4 (dp-sgd, the grid of the privacy loss)."""
        self.check_levels(delta, alpha)
        if self.family == "gaussian":
            return gaussian_epsilon(mu_lower(counts, alpha=alpha), delta)
        noise = self.noise_upper(counts, alpha=alpha)
        if noise is None or self.sample_rate is None or self.steps is None:
            return 0.0
        return dp_sgd_epsilon(noise, self.sample_rate, self.steps, delta, _interval(noise))

    def noise_upper(self, counts: GuessCounts, *, alpha: float) -> float | None:
        """The smallest rejected noise multiplier of the dp-sgd family; None if none up to `MOST_NOISE` is rejected."""
        if self.sample_rate is None or self.steps is None:
            return None
        return _noise_upper(self.sample_rate, int(self.steps), counts, alpha)


def evidence_against(counts: GuessCounts, *, alpha: float, inverse: Callable[[float], float]) -> float:
    """Positive exactly when the counts reject the trade-off curve at `alpha`; it falls as the curve leaks more.

    `inverse` is fbar^-1, fbar(x) = 1 - f(x) the largest true positive rate at false positive rate x. Suppose the
    tail of correct guesses had probability alpha; the recursion bounds the masses of all smaller counts from below,
    and a sum above guesses / canaries is impossible. Mahloujifar, Melis and Chaudhuri (2024, arXiv 2410.22235), for
    k = 2; proved for curves without symmetry in docs/bounds/one-run-fdp.md.
    """
    m, r, v = counts.canaries, counts.guesses, counts.correct
    right, wrong = alpha * v / m, alpha * (r - v) / m
    for i in range(v - 1, -1, -1):
        least = max(wrong, inverse(min(right, 1.0)))
        right += i / (r - i) * (least - wrong)
        wrong = least
    return math.log((right + wrong) * m / r)


def mu_lower(counts: GuessCounts, *, alpha: float) -> float:
    """The largest mu whose Gaussian trade-off curve the counts reject; 0 if there is none."""

    def rejected(mu: float) -> bool:
        def inverse(rate: float) -> float:
            return float(special.ndtr(special.ndtri(rate) - mu))

        return evidence_against(counts, alpha=alpha, inverse=inverse) > 0

    if not rejected(0.0):
        return 0.0
    return last_true(rejected, 0.0, first_power_of_two(lambda mu: not rejected(mu), limit=64.0), tolerance=1e-11)


@functools.lru_cache(maxsize=4096)
def _noise_upper(sample_rate: float, steps: int, counts: GuessCounts, alpha: float) -> float | None:
    def against(log_noise: float, coarseness: float) -> float:
        noise = math.exp(log_noise)
        curve = dp_sgd_curve(noise, sample_rate, steps, coarseness * _interval(noise))
        return evidence_against(counts, alpha=alpha, inverse=curve.inverse)

    low = high = 0.0
    while against(high, 4.0) <= 0:
        if high >= math.log(MOST_NOISE):
            return None
        low, high = high, high + math.log(2)
    while low == high or against(low, 4.0) > 0:
        if low <= math.log(LEAST_NOISE):
            return math.exp(low)
        low, high = low - math.log(2), low
    # A coarse grid of losses finds the neighbourhood at a quarter of the price.
    near = first_positive(lambda x: against(x, 4.0), low, high, tolerance=1e-4)
    low, high = near - 4e-4, near + 2e-4
    while against(high, 1.0) <= 0:
        low, high = high, high + 4e-4
    return math.exp(first_positive(lambda x: against(x, 1.0), low, high, tolerance=4e-6))


def _interval(noise: float) -> float:
    """Spacing of the privacy loss grid. Its square governs the error: 3e-5 in epsilon at noise 0.84, q .01, T 1000."""
    if noise >= 0.6:
        return 2.5e-4
    return 5e-4 if noise >= 0.4 else 1e-3
