"""Scores of canaries whose true epsilon is known exactly: what every lower bound is tried on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray

CANARIES = 1000
TRUTHS = {"null": 0.0, "laplace": 1.0}


@dataclass(frozen=True, slots=True)
class CoverageFixture:
    """Many audits of one mechanism that is exactly (`epsilon`, 0)-DP for each canary, add-remove.

    `scores` float (trials, canaries), higher for more likely inside; `inside` bool (trials, canaries), every canary
    by its own fair coin.
    """

    name: str
    epsilon: float
    scores: NDArray[np.float64]
    inside: BoolArray

    def epsilon_at(self, delta: float) -> float:
        """The smallest epsilon at which the mechanism is (epsilon, `delta`)-DP: no more than this may be claimed.

        Laplace noise of scale 1 on a shift of E has delta(e) = 1 - exp((e - E) / 2) for 0 <= e <= E.
        """
        return max(0.0, self.epsilon + 2 * float(np.log1p(-delta)))


def coverage_fixture(name: str, trials: int, *, seeds: Seeds, canaries: int = CANARIES) -> CoverageFixture:
    """`trials` audits of `canaries` canaries: score = epsilon * coin + Laplace(1) noise, independent throughout.

    Releasing the score of one canary is the Laplace mechanism on a sum to which the canary adds `epsilon` or nothing:
    the log-likelihood ratio of in against out is |x| - |x - epsilon|, which reaches +-epsilon for x outside
    (0, epsilon) and never exceeds it. At epsilon 0 the score does not depend on the coin at all.
    """
    if name not in TRUTHS:
        raise ConfigError(f"coverage fixture: expected one of {', '.join(TRUTHS)}, got {name!r}")
    epsilon = TRUTHS[name]
    inside = seeds.at(name, "coins").generator().random((trials, canaries)) < 0.5
    noise = seeds.at(name, "noise").generator().laplace(size=(trials, canaries))
    return CoverageFixture(name, epsilon, epsilon * inside + noise, inside)


def log_likelihood_ratio(scores: NDArray[np.float64], epsilon: float) -> NDArray[np.float64]:
    """ln p(score | in) / p(score | out) for the fixture of that epsilon; within [-epsilon, epsilon]."""
    return np.asarray(np.abs(scores) - np.abs(scores - epsilon))
