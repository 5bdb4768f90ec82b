"""Exact limits and tails of the binomial law, also with an adversarial excess (the delta terms of one-run bounds)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special


def upper_limit(successes: int, trials: int, alpha: float) -> float:
    """The one-sided upper confidence limit of a probability, wrong with probability at most `alpha` (Clopper and
    Pearson 1934)."""
    if successes == trials:
        return 1.0
    return float(special.betainccinv(successes + 1, trials - successes, alpha))


def lower_limit(successes: int, trials: int, alpha: float) -> float:
    """The one-sided lower confidence limit of a probability, wrong with probability at most `alpha`."""
    if successes == 0:
        return 0.0
    return float(special.betaincinv(successes, trials - successes + 1, alpha))


def lower_log_odds(successes: int, trials: int, alpha: float) -> float:
    """ln(p / (1 - p)) at the lower confidence limit p, without cancellation near 1. -inf without successes."""
    if successes == 0:
        return float("-inf")
    failures = trials - successes + 1
    p = special.betaincinv(successes, failures, alpha)
    return float(np.log(p) - np.log(special.betainccinv(failures, successes, alpha)))


@dataclass(frozen=True, slots=True)
class ExcessTail:
    """sup P[W + F >= hits] over laws of an integer F >= 0, independent of W ~ Binomial(trials, q), with E[F] <= excess.

    The supremum is the concave envelope of i -> P[W >= hits - i] at `excess`: up to its first tangent point it is
    P[W >= v] + excess * max_i P[v - i <= W < v] / i, the form of Steinke, Nasr and Jagielski (2023, arXiv
    2305.08846, Theorem 5.2); beyond it (excess above one or more, never in a sensible design) the envelope is the
    function itself, because the binomial law is unimodal.
    """

    hits: int
    trials: int
    excess: float
    log_ways: NDArray[np.float64]

    @classmethod
    def of(cls, hits: int, trials: int, excess: float) -> ExcessTail:
        """Binomial coefficients are computed once, for many values of q."""
        k = np.arange(hits - 1, -1, -1, dtype=np.float64)
        ways = special.gammaln(trials + 1.0) - special.gammaln(k + 1) - special.gammaln(trials - k + 1)
        return cls(hits, trials, excess, np.asarray(ways))

    def at(self, log_odds: float) -> float:
        """The tail at q = 1 / (1 + exp(-log_odds)), at most 1; it grows with `log_odds`."""
        if self.hits == 0 or self.excess >= self.hits:
            return 1.0
        tail = float(special.betainc(self.hits, self.trials - self.hits + 1, special.expit(log_odds)))
        if self.excess == 0:
            return tail
        k = np.arange(self.hits - 1, -1, -1)
        log_mass = self.log_ways + k * special.log_expit(log_odds) + (self.trials - k) * special.log_expit(-log_odds)
        below = np.cumsum(np.exp(log_mass))
        slopes = below / np.arange(1, self.hits + 1)
        tangent = int(np.argmax(slopes)) + 1
        if self.excess <= tangent:
            return min(1.0, tail + self.excess * float(slopes[tangent - 1]))
        return min(1.0, tail + float(np.interp(self.excess, np.arange(self.hits + 1), np.append(0.0, below))))
