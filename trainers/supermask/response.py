"""Sampled bits as a local mechanism: a clamped Bernoulli mask is randomised response, an unclamped one is nothing."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ...audit.accounting.claims import DELTA_GRID
from ...audit.bounds.search import last_true
from ...audit.errors import ConfigError
from ...audit.types import Adjacency, Claim, CurvePoint, Mechanism, Unit

Floats = NDArray[np.float64]

ASSUMES = (
    "trusted: nobody but the client itself, which samples its bits before sending",
    "every bit is drawn by itself with a chance clamped to [1/2 - clamp, 1/2 + clamp], whatever the client's data",
    "neighbours differ in one client's whole data; who takes part in which round does not depend on data, and may be "
    "known",
    "in each round a client sends one bit per masked weight, and each depends on all of its data",
    "model, frozen weights, hyperparameters and the choice of this run were made without the private data",
    "bits are drawn by a seeded generator: a mask that is to be released needs a secret seed",
)


def bit_epsilon(clamp: float) -> float:
    """Local epsilon of one bit: ln((1/2 + clamp) / (1/2 - clamp)) (Warner 1965; randomised response)."""
    if not 0 < clamp < 0.5:
        raise ConfigError(f"clamp must lie in (0, 1/2), got {clamp}: without one a bit may be certain")
    return math.log((0.5 + clamp) / (0.5 - clamp))


def composed_delta(epsilon: float, clamp: float, bits: int) -> float:
    """The exact delta at `epsilon` of `bits` bits, each clamped, all of which the data may turn the same way.

    The worst pair is Bernoulli(1/2 + clamp) against Bernoulli(1/2 - clamp) in every bit, whose log-likelihood ratio
    e (2 X - bits), X the number of ones, grows with X: delta = P[X >= t] - exp(epsilon) Q[X >= t] with t the first X
    at which it exceeds epsilon (Kairouz, Oh, Viswanath 2015, arXiv 1311.0776, theorem 3.3 with delta 0; proof that
    the pair is the worst, adaptive rounds included, in docs/supermask.md).
    """
    one = bit_epsilon(clamp)
    first = math.floor((epsilon / one + bits) / 2) + 1
    if first > bits:
        return 0.0
    above = float(stats.binom.logsf(first - 1, bits, 0.5 + clamp))
    below = epsilon + float(stats.binom.logsf(first - 1, bits, 0.5 - clamp))
    gap = math.exp(above) * -math.expm1(below - above) if below < above else 0.0
    return max(0.0, gap)


def mixed_delta(epsilon: float, clamp: float, bits: int, times: Floats, chances: Floats) -> float:
    """Mean delta where the client takes part `times` (n,) rounds with `chances` (n,), as everyone may know."""
    return float(sum(p * composed_delta(epsilon, clamp, bits * int(k)) for k, p in zip(times, chances, strict=True)))


@lru_cache(maxsize=64)
def response_claim(clamp: float, bits: int, sample_rate: float, rounds: int, delta: float) -> Claim:
    """What `bits` clamped bits a round promise one client against the server that sees each upload.

    Unit client, one client's data replaced; the curve mixes the exact composition over the number of rounds that the
    client joins, Binomial(rounds, sample_rate).
    """
    times = np.arange(1.0, rounds + 1)
    chances = stats.binom.pmf(times, rounds, sample_rate)
    likely = chances > 1e-30
    times, chances = times[likely], chances[likely]
    points = []
    for target in sorted({*DELTA_GRID, delta}):

        def above(epsilon: float, target: float = target) -> bool:
            return mixed_delta(epsilon, clamp, bits, times, chances) > target

        most = bit_epsilon(clamp) * bits * rounds
        epsilon = last_true(above, 0.0, most, tolerance=1e-6 * most) if above(0.0) else 0.0
        points.append(CurvePoint(target, epsilon + (1e-6 * most if epsilon else 0.0)))
    headline = next(p for p in points if p.delta == delta)
    return Claim(
        headline.epsilon,
        delta,
        Unit.CLIENT,
        Adjacency.REPLACE_ONE,
        Mechanism(
            "randomised-response",
            (("clamp", clamp), ("bits", float(bits)), ("sample_rate", sample_rate), ("steps", float(rounds))),
        ),
        f"exact composition of {bits} bits a round, {bit_epsilon(clamp):.4g} each",
        tuple(points),
        ASSUMES,
    )
