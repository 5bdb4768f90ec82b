"""Sampled bits as a local mechanism: a clamped Bernoulli mask is randomised response, an unclamped one is nothing."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ...audit.accounting.claims import DELTA_GRID
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
    return float(_deltas(epsilon, clamp, np.array([float(bits)]))[0])


def _deltas(epsilon: float, clamp: float, bits: Floats) -> Floats:
    """`composed_delta` for several numbers of bits (n,)."""
    first = np.floor((epsilon / bit_epsilon(clamp) + bits) / 2) + 1
    above = stats.binom.logsf(first - 1, bits, 0.5 + clamp)
    below = epsilon + stats.binom.logsf(first - 1, bits, 0.5 - clamp)
    # Beyond the last outcome both are minus infinity, whose difference is nothing.
    above, below = np.maximum(above, -1e300), np.maximum(below, -1e300)
    out: Floats = np.exp(above) * -np.expm1(np.minimum(below - above, 0.0))
    return out


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
    points = [CurvePoint(d, _epsilon(d, clamp, bits * times, chances)) for d in sorted({*DELTA_GRID, delta})]
    headline = next(p for p in points if p.delta == delta)
    return Claim(
        headline.epsilon,
        delta,
        Unit.CLIENT,
        Adjacency.REPLACE_ONE,
        Mechanism(
            "randomised-response",
            (("bits", float(bits)), ("clamp", clamp), ("sample_rate", sample_rate), ("steps", float(rounds))),
        ),
        f"exact composition of {bits} bits a round, {bit_epsilon(clamp):.4g} each",
        tuple(points),
        ASSUMES,
    )


def _epsilon(delta: float, clamp: float, bits: Floats, chances: Floats) -> float:
    """The smallest epsilon, from above, whose mean delta over numbers of `bits` (n,) with `chances` (n,) is `delta`."""

    def above(epsilon: float) -> bool:
        return bool(chances @ _deltas(epsilon, clamp, bits) > delta)

    low, high = 0.0, bit_epsilon(clamp) * float(bits.max())
    if not above(low):
        return low
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) else (low, middle)
    return high
