"""`bayesian`: a credible bound from the joint posterior of both error rates. It never decides a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..types import Validity
from .counts import ConfusionCounts
from .method import Certifying
from .search import first_power_of_two, last_true

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


@dataclass(frozen=True, slots=True)
class Bayesian(Certifying[ConfusionCounts]):
    """The epsilon whose privacy region holds posterior mass alpha, under independent Jeffreys priors on both rates.

    A credible, not a confidence bound: on randomised response its 5 % bound is false 8 to 21 % of the time.
    Zanella-Beguelin et al. (2022, arXiv 2206.05199), by one-dimensional integration.
    """

    name: ClassVar[str] = "bayesian"
    counts_type: ClassVar[type] = ConfusionCounts

    def validity(self, delta: float) -> Validity:  # noqa: ARG002
        """Bayesian at every delta."""
        return Validity.BAYESIAN

    def epsilon_lower(self, counts: ConfusionCounts, *, delta: float, alpha: float) -> float:
        """The largest epsilon whose (epsilon, delta) region has posterior mass at most `alpha`."""
        self.check_levels(delta, alpha)
        miss = _Beta.of(counts.false_negatives, counts.true_positives)
        alarm = _Beta.of(counts.false_positives, counts.nonmembers - counts.false_positives)

        def excluded(epsilon: float) -> bool:
            # (epsilon, delta)-DP fails where either the attack or the attack turned around is too good.
            direct = _too_good(miss, alarm, epsilon, delta)
            return 1 - direct - _too_good(miss.mirrored(), alarm.mirrored(), epsilon, delta) <= alpha

        if not excluded(0.0):
            return 0.0
        return last_true(excluded, 0.0, first_power_of_two(lambda x: not excluded(x), limit=512.0), tolerance=1e-7)


@dataclass(frozen=True, slots=True)
class _Beta:
    """The posterior Beta(a, b) of an error rate; all but 2e-15 of it has log odds between `low` and `high`."""

    a: float
    b: float
    low: float
    high: float

    @classmethod
    def of(cls, wrong: int, right: int) -> _Beta:
        a, b = wrong + 0.5, right + 0.5
        low = math.log(special.betaincinv(a, b, 1e-15)) - math.log(special.betainccinv(b, a, 1e-15))
        high = math.log(special.betainccinv(a, b, 1e-15)) - math.log(special.betaincinv(b, a, 1e-15))
        return cls(a, b, low, high)

    def mirrored(self) -> _Beta:
        """The law of one minus the rate."""
        return _Beta(self.b, self.a, -self.high, -self.low)

    def below(self, rate: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """The probability of a rate below `rate`."""
        return np.asarray(special.betainc(self.a, self.b, np.clip(rate, 0.0, 1.0)))

    def density(self, log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
        """The density of the log odds of the rate."""
        logs = self.a * special.log_expit(log_odds) + self.b * special.log_expit(-log_odds)
        return np.asarray(np.exp(logs - special.betaln(self.a, self.b)))


def _too_good(x: _Beta, y: _Beta, epsilon: float, delta: float) -> float:
    """P[y < 1 - delta - e^eps x or y < e^-eps (1 - delta - x)]: a square at the origin and a wing along each axis."""
    corner = (1 - delta) * special.expit(-epsilon)
    square = float(x.below(corner) * y.below(corner))
    return square + _wing(x, y, corner, epsilon, delta) + _wing(y, x, corner, epsilon, delta)


def _wing(x: _Beta, y: _Beta, corner: float, epsilon: float, delta: float) -> float:
    """P[x >= corner, y < e^-eps (1 - delta - x)], by Gauss-Legendre quadrature over the log odds of x."""
    low = max(x.low, math.log(corner) - math.log1p(-corner))
    if low >= x.high:
        return 0.0
    log_odds = low + (x.high - low) * (_NODES + 1) / 2
    inner = y.below(math.exp(-epsilon) * (special.expit(-log_odds) - delta))
    return float((x.high - low) / 2 * np.sum(_WEIGHTS * x.density(log_odds) * inner))
