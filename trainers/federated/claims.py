"""What federated training promises each client, observer by observer.

Hidden participation (central noise): Poisson subsampling amplifies, accounted by PLD. Known participation (client
noise): a client takes part K ~ Binomial(rounds, rate) times whatever its data, the observer knows when, and delta is
the mean over K of the delta of K rounds without subsampling.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from ...audit.accounting import PrivacyCurve, dp_sgd_claim
from ...audit.accounting.claims import DELTA_GRID
from ...audit.bounds.search import last_true
from ...audit.errors import ConfigError
from ...audit.types import Adjacency, Claim, CurvePoint, Mechanism, Unit
from .discrete_gaussian import shares_gap
from .protection import Protection, Seen, View

Floats = NDArray[np.float64]
Profile = Callable[[float, Floats], Floats]
"""(epsilon, participations (n,)) to delta (n,)."""

MOST_PARAMETERS = 1e9
"""Dimension assumed where the discreteness of noise shares costs something in each coordinate: far above any here."""

PUBLIC = (
    "sampling rate, rounds, noise, clip and the divisor (expected cohort) follow from public numbers; none depends on "
    "who took part or on how many examples a client has",
    "each client's whole update over all parameters is clipped; one with NaN or infinity counts as zero",
    "training metrics stored beside the model are not part of the release",
    "model, hyperparameters, preprocessing and the choice of this run were made without the private data",
    "noise is drawn by a seeded generator in floating point: a model that is to be released needs a secret seed",
)
HIDDEN = (
    "trusted: the server, which sees the updates before noise and keeps secret who took part",
    "each client joins each round on its own with the stated rate (Poisson sampling)",
)
KNOWN = (
    "the observer may know who takes part; neighbours differ in one client's updates being replaced by zero ones",
    "each client joins each round on its own with the stated rate, whatever its data",
)
TRUST = {
    "updates": "trusted: nobody but the client itself, which adds its noise before sending",
    "sum": "trusted: secure aggregation, and the other clients to add their shares of the noise; no collusion",
    "global-models": "trusted: the server, and the clients to add their noise",
    "final-model": "trusted: the server, and the clients to add their noise",
}


def view_claim(protection: Protection, view: View, *, sample_rate: float, rounds: int, delta: float) -> Claim | None:
    """The claim that holds against the observer `view`, unit client; None where nothing protects from it."""
    seen = protection.against(view)
    if seen is None:
        return None
    if seen.known:
        return _known_claim(seen, protection.law, protection, view, sample_rate, rounds, delta)
    if protection.law == "laplace":
        return _laplace_claim(seen.noise_multiplier, sample_rate, rounds, delta)
    return _hidden_claim(seen.noise_multiplier, sample_rate, rounds, delta)


# Accounting takes seconds, and every observer and twin asks the same of it.
@lru_cache(maxsize=64)
def _hidden_claim(noise_multiplier: float, sample_rate: float, rounds: int, delta: float) -> Claim:
    return dp_sgd_claim(
        noise_multiplier=noise_multiplier,
        sample_rate=sample_rate,
        steps=rounds,
        delta=delta,
        unit=Unit.CLIENT,
        adjacency=Adjacency.ADD_REMOVE,
        assumes=(*HIDDEN, *PUBLIC),
    )


@lru_cache(maxsize=64)
def _laplace_claim(scale: float, sample_rate: float, rounds: int, delta: float) -> Claim:
    """Subsampled Laplace noise of `scale` clips on updates of L1 norm at most the clip, by PLD.

    One coordinate that moves by the whole clip is the worst case: splitting it over several only helps the client.
    """
    curve = _laplace_curve(scale, sample_rate, rounds)
    epsilons = curve.epsilons([*DELTA_GRID, delta])
    points = [CurvePoint(d, e) for d, e in zip([*DELTA_GRID, delta], epsilons, strict=True) if math.isfinite(e)]
    return _claim(points, delta, "laplace", scale, sample_rate, rounds, Adjacency.ADD_REMOVE, (*HIDDEN, *PUBLIC))


def _laplace_curve(scale: float, sample_rate: float, rounds: int) -> PrivacyCurve:
    from dp_accounting.pld import privacy_loss_distribution as pld

    interval = max(1e-4, rounds / scale / 1e5)
    step = pld.from_laplace_mechanism(scale, sampling_prob=sample_rate, value_discretization_interval=interval)
    return PrivacyCurve(step.self_compose(rounds), interval=interval, steps=rounds)


@lru_cache(maxsize=64)
def _known_claim(
    seen: Seen, law: str, protection: Protection, view: View, sample_rate: float, rounds: int, delta: float
) -> Claim:
    deltas = sorted({*DELTA_GRID, delta})
    assumes = (TRUST[view], *KNOWN, *PUBLIC)
    if law == "laplace":
        points = _known_laplace(seen.noise_multiplier, sample_rate, rounds, deltas)
        name = "laplace-known-participation"
    else:
        profile = _discrete_profile(seen, protection, view) if protection.discrete else _gaussian_profile(seen)
        points = [CurvePoint(d, _mixed_epsilon(profile, sample_rate, rounds, d)) for d in deltas]
        name = ("discrete-" if protection.discrete else "") + "gaussian-known-participation"
    return _claim(points, delta, name, seen.noise_multiplier, sample_rate, rounds, Adjacency.ZERO_OUT, assumes)


def _claim(
    points: list[CurvePoint],
    delta: float,
    mechanism: str,
    noise_multiplier: float,
    sample_rate: float,
    rounds: int,
    adjacency: Adjacency,
    assumes: tuple[str, ...],
) -> Claim:
    points = sorted(points, key=lambda p: p.delta)
    headline = next((p for p in points if p.delta == delta), None)
    if headline is None:
        raise ConfigError(f"delta {delta:g} is below what the accountant resolves: use a larger one")
    numbers = (("noise_multiplier", noise_multiplier), ("sample_rate", sample_rate), ("steps", float(rounds)))
    accountant = "participation mixture, closed form"
    if "laplace" in mechanism:
        accountant = f"pld (dp-accounting {importlib.metadata.version('dp-accounting')})"
    elif mechanism.startswith("discrete"):
        accountant = "participation mixture, zCDP"
    return Claim(
        headline.epsilon,
        delta,
        Unit.CLIENT,
        adjacency,
        Mechanism(mechanism, numbers),
        accountant,
        tuple(points),
        assumes,
    )


def _gaussian_profile(seen: Seen) -> Profile:
    """k Gaussian releases of one update are one with mu = sqrt(k) / z (Dong, Roth, Su 2019, arXiv 1905.02383)."""

    def delta(epsilon: float, times: Floats) -> Floats:
        mu = np.sqrt(times) / seen.noise_multiplier
        upper = special.ndtr(mu / 2 - epsilon / mu)
        lower = np.exp(epsilon + special.log_ndtr(-mu / 2 - epsilon / mu))
        return np.asarray(np.maximum(upper - lower, 0.0))

    return delta


def _discrete_profile(seen: Seen, protection: Protection, view: View) -> Profile:
    """Sums of discrete Gaussian shares by concentrated DP, as Kairouz, Liu, Steinke (2021, arXiv 2102.06387, prop. 14):
    rho = min(1/z^2 + tau d / 2, (1/z + tau sqrt d)^2) / 2 a release, tau from `shares_gap`; then delta of k rho by
    Canonne, Kamath, Steinke (2020, arXiv 2004.00010, cor. 13)."""
    shares = 1 if view == "updates" else protection.least_cohort
    # Rounding is toward zero, so a clipped update is at most `largest` units long: noise in units is client * largest.
    largest = 2 ** (protection.bits - 1) - 1
    gap = shares_gap(protection.client * largest, shares)
    size = 1 / seen.noise_multiplier
    rho = min(size**2 + gap * MOST_PARAMETERS / 2, (size + gap * math.sqrt(MOST_PARAMETERS)) ** 2) / 2
    orders = 1 + np.geomspace(1e-3, 1e4, 400)[:, None]

    def delta(epsilon: float, times: Floats) -> Floats:
        exponent = (orders - 1) * (orders * rho * times - epsilon) + orders * np.log1p(-1 / orders)
        return np.asarray(np.minimum(1.0, np.exp(np.minimum(exponent - np.log(orders - 1), 0.0)).min(axis=0)))

    return delta


def _mixed_epsilon(profile: Profile, sample_rate: float, rounds: int, delta: float) -> float:
    """The smallest epsilon whose mean delta over the number of participations is at most `delta`."""
    times = np.arange(1.0, rounds + 1)
    chances = stats.binom.pmf(times, rounds, sample_rate)
    likely = chances > 1e-30
    times, chances = times[likely], chances[likely]

    def above(epsilon: float) -> bool:
        return bool(chances @ profile(epsilon, times) > delta)

    if not above(0.0):
        return 0.0
    high = 1.0
    while above(high):
        high *= 2
        if high > 1e7:
            raise ConfigError("the noise gives an epsilon beyond 1e7: no claim worth accounting")
    return last_true(above, 0.0, high, tolerance=1e-9 * max(1.0, high)) + 1e-9 * max(1.0, high)


def _known_laplace(scale: float, sample_rate: float, rounds: int, deltas: list[float]) -> list[CurvePoint]:
    """Half of delta for more participations than a quantile, half for that many releases without subsampling."""
    points, curves = [], {}
    for delta in deltas:
        most = max(1, int(stats.binom.isf(delta / 2, rounds, sample_rate)))
        if most not in curves:
            curves[most] = _laplace_curve(scale, 1.0, most)
        epsilon = curves[most].epsilon(delta / 2)
        if math.isfinite(epsilon):
            points.append(CurvePoint(delta, epsilon))
    return points


def calibrated(protect: Callable[[float], Protection], view: View, epsilon: float, **public: Any) -> float:
    """The smallest noise multiplier (to 1e-4 of itself) whose claim against `view` is at most `epsilon`.

    `protect(noise_multiplier)` gives the protection; `public` are `sample_rate`, `rounds` and `delta`.
    """
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise ConfigError(f"epsilon must be a positive finite number, got {epsilon}")

    def spends(noise_multiplier: float) -> float:
        claim = view_claim(protect(noise_multiplier), view, **public)
        if claim is None:
            raise ConfigError(f"no noise protects from view {view!r}: choose noise for it or another view")
        return claim.epsilon

    low, high = 1.0, 1.0
    while spends(high) > epsilon:
        high *= 2
        if high > 1e6:
            raise ConfigError(f"no noise multiplier up to 1e6 reaches epsilon {epsilon:g}")
    while low > 1e-2 and spends(low) <= epsilon:
        low /= 2
    while high / low > 1 + 1e-4:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if spends(middle) > epsilon else (low, middle)
    return high
