"""The Gaussian trade-off curve: epsilon at delta of a mu-GDP mechanism, and back."""

from __future__ import annotations

import math

from scipy import special

from .search import first_power_of_two, last_true


def gaussian_log_delta(epsilon: float, mu: float) -> float:
    """ln delta(epsilon) of a mu-GDP mechanism: delta = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu).

    Dong, Roth and Su (2019, arXiv 1905.02383, Corollary 1), in the log domain so that it neither overflows nor
    cancels to a negative number.
    """
    upper = float(special.log_ndtr(mu / 2 - epsilon / mu))
    ratio = epsilon + float(special.log_ndtr(-mu / 2 - epsilon / mu)) - upper
    return upper + math.log(-math.expm1(ratio)) if ratio < 0 else -math.inf


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon for which every mu-GDP mechanism is (epsilon, delta)-DP; 0 for mu <= 0. Needs delta > 0."""
    if mu <= 0:
        return 0.0
    target = math.log(delta)

    def above(epsilon: float) -> bool:
        return gaussian_log_delta(epsilon, mu) > target

    if not above(0.0):
        return 0.0
    # Epsilon grows like mu^2 / 2: a release with hardly any noise has an epsilon of many digits, and it is claimed.
    return last_true(above, 0.0, first_power_of_two(lambda x: not above(x), limit=2.0**200))


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest mu whose mechanisms are (epsilon, delta)-DP: the inverse of `gaussian_epsilon`."""

    def within(mu: float) -> bool:
        return gaussian_epsilon(mu, delta) <= epsilon

    return last_true(within, 0.0, first_power_of_two(lambda x: not within(x)), tolerance=1e-11)


def true_positive_rate(false_positive_rate: float, mu: float) -> float:
    """The most powerful test's true positive rate against a mu-GDP mechanism."""
    return float(special.ndtr(special.ndtri(false_positive_rate) + mu))
