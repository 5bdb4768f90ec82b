"""`sequential`: pairs of independent runs, one with and one without the canary; train more whenever you like."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..errors import ConfigError
from ..types import Validity
from .counts import PairedOutputs, real
from .method import Certifying
from .search import first_power_of_two, last_true

FRACTIONS = np.array([0.2, 0.45, 0.7, 0.88, 0.97])
"""The shares of the capital at risk in the bets that divide the capital equally when no single share is chosen."""

FORWARD = 0.75
"""The capital bet on more hits inside than e^epsilon allows; the rest bets on fewer misses. Audits threshold at low
false positive rates, where the first direction is the strong one."""


@dataclass(frozen=True, slots=True)
class Sequential(Certifying[PairedOutputs]):
    """The largest epsilon against which a gambler's capital over the pairs ever reached 1 / alpha.

    For the attack's output phi in [0, 1], (epsilon, delta)-DP gives E[phi_in - e^eps phi_out - delta] <= 0 and the
    same with the roles swapped and 1 - phi, so 1 + lambda times it is a fair or losing bet (Ville 1939). Any mechanism;
    independent runs, phi fixed beforehand or from earlier pairs only; any stopping rule. `fraction` in (0, 1), fixed
    beforehand, is the one share of the capital to risk; without it the capital is spread over five shares. Betting:
    Waudby-Smith and Ramdas (2020, arXiv 2010.09686); as an audit: Gonzalez et al. (2025, arXiv 2509.07055).
    """

    fraction: float | None = None

    name: ClassVar[str] = "sequential"
    counts_type: ClassVar[type] = PairedOutputs
    anytime: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.fraction is not None and not 0 < real("fraction", self.fraction) < 1:
            raise ConfigError(f"sequential: fraction must lie strictly between 0 and 1, got {self.fraction}")

    @property
    def fractions(self) -> NDArray[np.float64]:
        """The shares of the capital that bets put at risk."""
        return FRACTIONS if self.fraction is None else np.array([self.fraction])

    def validity(self, delta: float) -> Validity:  # noqa: ARG002
        """Anytime at every delta."""
        return Validity.ANYTIME

    def epsilon_lower(self, counts: PairedOutputs, *, delta: float, alpha: float) -> float:
        """The largest epsilon rejected after any number of pairs."""
        self.check_levels(delta, alpha)
        inside, outside = np.array(counts.inside), np.array(counts.outside)
        needed = -math.log(alpha)

        def rejected(epsilon: float) -> bool:
            return bool(np.max(log_capital(inside, outside, epsilon, delta, self.fractions)) >= needed)

        if not rejected(0.0):
            return 0.0
        return last_true(rejected, 0.0, first_power_of_two(lambda x: not rejected(x)), tolerance=1e-10)


def log_capital(
    inside: NDArray[np.float64],
    outside: NDArray[np.float64],
    epsilon: float,
    delta: float,
    fractions: NDArray[np.float64] = FRACTIONS,
) -> NDArray[np.float64]:
    """ln of the capital after each pair, along the last axis; never grows with epsilon."""
    forward = _log_bets(inside, outside, epsilon, delta, fractions) + math.log(FORWARD / len(fractions))
    backward = _log_bets(1 - outside, 1 - inside, epsilon, delta, fractions) + math.log((1 - FORWARD) / len(fractions))
    return np.asarray(special.logsumexp(np.concatenate([forward, backward]), axis=0))


def _log_bets(
    more: NDArray[np.float64],
    less: NDArray[np.float64],
    epsilon: float,
    delta: float,
    fractions: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Running sums of ln(1 + lambda (more - e^eps less - delta)), lambda = f / (e^eps + delta); first axis f.

    Where more < delta (1 - less) the factor would grow with epsilon; its value at epsilon 0 is below it there, so
    the capital stays fair and becomes monotone, and bisection finds the right end.
    """
    gain = more - delta * (1 - less)
    scale = np.where(gain >= 0, math.exp(-epsilon) / (1 + delta * math.exp(-epsilon)), 1 / (1 + delta))
    return np.asarray(np.cumsum(np.log1p(np.multiply.outer(fractions, gain * scale - less)), axis=-1))
