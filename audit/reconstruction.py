"""How often reconstruction can succeed at most, given a claim: the ceiling from the claim's trade-off curve.

A secret is drawn from a known prior; an attacker without the release succeeds with probability `prior`. With a release
whose trade-off function is f, no attacker succeeds with probability above 1 - f(prior): success and no success are a
test of "the secret was used" against "it was not" with level `prior` (Hayes, Mahloujifar and Balle 2023, arXiv
2302.07225; Balle, Cherubin and Hayes 2022, arXiv 2201.04845; derivation in docs/inversion.md).
"""

from __future__ import annotations

import numpy as np
from scipy import integrate, optimize, special

from .bounds.gaussian import gaussian_epsilon, gaussian_log_delta, true_positive_rate
from .errors import ConfigError
from .types import Claim


def gaussian_success_bound(prior: float, mu: float) -> float:
    """Phi(Phi^-1(prior) + mu): the most that any attacker reaches against one mu-GDP release."""
    return true_positive_rate(_checked(prior), mu)


def success_bound(prior: float, claim: Claim) -> float:
    """1 - f(prior) for the claim's own trade-off curve; for a claim on one Gaussian release, the exact curve.

    A pair (epsilon, delta) has f(x) = max(0, 1 - delta - e^epsilon x, e^-epsilon (1 - delta - x)) (Dong, Roth and Su
    2019, arXiv 1905.02383, equation 5); the least over all pairs of the claim.
    """
    prior = _checked(prior)
    if claim.mechanism.name == "gaussian":
        return gaussian_success_bound(prior, 1 / claim.mechanism["noise_multiplier"])
    points = [(claim.epsilon, claim.delta), *((p.epsilon, p.delta) for p in claim.curve)]
    return min(_pair_bound(prior, epsilon, delta) for epsilon, delta in points)


def _pair_bound(prior: float, epsilon: float, delta: float) -> float:
    growth = float(np.exp(min(epsilon, 700.0)))
    return min(1.0, growth * prior + delta, 1 - (1 - delta - prior) / growth)


def tangent_delta(prior: float, mu: float) -> float:
    """The delta whose point of the Gaussian curve touches its bound at `prior`: e^epsilon prior + delta is least there.

    Testing at this delta loses nothing against testing the curve where `prior` is below Phi(-mu / 2) (a claim's epsilon
    is not negative, so beyond that the best pair is epsilon 0), and it depends on the design alone.
    """
    prior = _checked(prior)

    def allowed(epsilon: float) -> float:
        return float(np.exp(min(epsilon, 700.0))) * prior + float(np.exp(gaussian_log_delta(epsilon, mu)))

    # The slope of the curve at `prior` is e^epsilon, so epsilon = mu (mu / 2 - Phi^-1(...)) is found directly.
    highest = max(mu * (mu / 2 - float(special.ndtri(prior))), 0.0) + 1.0
    found = optimize.minimize_scalar(allowed, bounds=(0.0, highest), method="bounded", options={"xatol": 1e-10})
    return float(np.exp(gaussian_log_delta(float(found.x), mu)))


def orthogonal_success(candidates: int, mu: float) -> float:
    """The best success with `candidates` orthogonal signals of norm mu in unit noise: the largest inner product wins.

    The integral of phi(x - mu) Phi(x)^(k-1) dx, the detection probability of k orthogonal signals.
    """
    if candidates < 2:
        raise ConfigError(f"candidates must be at least 2, got {candidates}")

    def integrand(x: float) -> float:
        density = np.exp(-((x - mu) ** 2) / 2) / np.sqrt(2 * np.pi)
        return float(density * np.exp((candidates - 1) * special.log_ndtr(x)))

    value, _ = integrate.quad(integrand, mu - 12, mu + 12, limit=200)
    return float(value)


def gaussian_release_epsilon(noise_multiplier: float, delta: float) -> float:
    """Epsilon at `delta` of one Gaussian release of sensitivity 1 with this noise (Balle and Wang 2018, 1805.06530)."""
    return gaussian_epsilon(1 / noise_multiplier, delta)


def _checked(prior: float) -> float:
    if not 0 < prior < 1:
        raise ConfigError(f"prior success must lie strictly between 0 and 1, got {prior}")
    return prior
