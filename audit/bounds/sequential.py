"""`sequential`: pairs of independent runs, one with and one without the canary; train more whenever you like."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..types import Validity
from .counts import PairedOutputs
from .method import Certifying
from .search import first_power_of_two, last_true

FRACTIONS = np.array([0.01, 0.02, 0.04, 0.08, 0.15, 0.25, 0.4, 0.6, 0.8, 0.95, 0.99])
"""The share of the capital that each bet puts at risk; bets of both directions share the capital equally."""


@dataclass(frozen=True, slots=True)
class Sequential(Certifying[PairedOutputs]):
    """The largest epsilon against which a gambler's capital over the pairs ever reached 1 / alpha.

    For the attack's output phi in [0, 1], (epsilon, delta)-DP gives E[phi_in - e^eps phi_out - delta] <= 0 and the
    same with the roles swapped and 1 - phi, so 1 + lambda times it is a fair or losing bet (Ville 1939). Any mechanism;
    independent runs, phi fixed beforehand or from earlier pairs only; any stopping rule. Betting as in Waudby-Smith
    and Ramdas (2020, arXiv 2010.09686); as an audit: Gonzalez et al. (2025, arXiv 2509.07055).
    """

    name: ClassVar[str] = "sequential"
    counts_type: ClassVar[type] = PairedOutputs
    anytime: ClassVar[bool] = True

    def validity(self, delta: float) -> Validity:  # noqa: ARG002
        """Anytime at every delta."""
        return Validity.ANYTIME

    def epsilon_lower(self, counts: PairedOutputs, *, delta: float, alpha: float) -> float:
        """The largest epsilon rejected after any number of pairs."""
        self.check_levels(delta, alpha)
        inside, outside = np.array(counts.inside), np.array(counts.outside)
        needed = -math.log(alpha)

        def rejected(epsilon: float) -> bool:
            return bool(np.max(log_capital(inside, outside, epsilon, delta)) >= needed)

        if not rejected(0.0):
            return 0.0
        return last_true(rejected, 0.0, first_power_of_two(lambda x: not rejected(x)), tolerance=1e-10)


def log_capital(
    inside: NDArray[np.float64], outside: NDArray[np.float64], epsilon: float, delta: float
) -> NDArray[np.float64]:
    """ln of the capital after each pair, along the last axis; never grows with epsilon."""
    forward = _log_bets(inside, outside, epsilon, delta)
    backward = _log_bets(1 - outside, 1 - inside, epsilon, delta)
    both = np.concatenate([forward, backward])
    return np.asarray(special.logsumexp(np.cumsum(both, axis=-1), axis=0) - math.log(len(both)))


def _log_bets(
    more: NDArray[np.float64], less: NDArray[np.float64], epsilon: float, delta: float
) -> NDArray[np.float64]:
    """ln(1 + lambda (more - e^eps less - delta)) with lambda = f / (e^eps + delta), first axis the fractions f.

    Where more < delta (1 - less) the factor would grow with epsilon; its value at epsilon 0 is below it there, so
    the capital stays fair and becomes monotone, and bisection finds the right end.
    """
    gain = more - delta * (1 - less)
    scale = np.where(gain >= 0, math.exp(-epsilon) / (1 + delta * math.exp(-epsilon)), 1 / (1 + delta))
    return np.asarray(np.log1p(np.multiply.outer(FRACTIONS, gain * scale - less)))
