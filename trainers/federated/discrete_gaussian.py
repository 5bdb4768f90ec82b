"""The discrete Gaussian, sampled exactly: noise for integer sums (Canonne, Kamath, Steinke 2020, arXiv 2004.00010)."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.types import FloatArray, IntArray

_Exponent = Callable[[int], Fraction]
_LARGEST_SIGMA = 2.0**40
_PRECISE = Context(prec=80)
_SLACK = 1e-12
"""Relative error allowed to a double-precision exp(-x), hundreds of times what it has for the x of this module."""


def discrete_gaussian(sigma: float, size: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """`size` independent integers x with probability proportional to exp(-x^2 / (2 sigma^2)), (size,).

    Algorithm 3 of Canonne, Kamath and Steinke: propose from the discrete Laplace law of scale t = floor(sigma) + 1,
    accept with probability exp(-(|y| - sigma^2 / t)^2 / (2 sigma^2)). Exact given uniform bits: a coin is tossed in
    double precision only where rounding cannot change it, else in rational arithmetic with further bits. Running time
    depends on the values drawn, as in most samplers. `sigma` is a parameter; the variance is slightly below sigma^2.
    """
    if not 0 <= sigma <= _LARGEST_SIGMA:
        raise ConfigError(f"discrete Gaussian: sigma must lie in [0, 2^40], got {sigma}")
    if sigma == 0:
        return np.zeros(size, np.int64)
    scale = math.floor(sigma) + 1
    exact = Fraction(sigma) ** 2
    done: list[NDArray[np.int64]] = []
    missing = size
    while missing > 0:
        # At least 2/3 of discrete Laplace proposals and about 3/4 of those after them are accepted.
        proposed = _discrete_laplace(scale, 2 * missing + 16, generator)
        kept = proposed[_accepted(proposed, scale, sigma, exact, generator)]
        done.append(kept[:missing])
        missing -= len(done[-1])
    return np.concatenate(done) if done else np.zeros(0, np.int64)


def log_probabilities(sigma: float, values: IntArray) -> FloatArray:
    """ln P(x) of the discrete Gaussian at integer `values`, by direct summation out to 40 sigma."""
    reach = math.ceil(40 * sigma) + 2
    support = np.arange(-reach, reach + 1, dtype=np.float64)
    total = math.log(float(np.exp(-(support**2) / (2 * sigma**2)).sum()))
    return np.asarray(-(np.asarray(values, np.float64) ** 2) / (2 * sigma**2) - total)


def shares_gap(sigma: float, clients: int) -> float:
    """tau, how far the sum of `clients` discrete Gaussians of `sigma` is from one of sigma sqrt(clients).

    In log-probability, per coordinate: 10 sum_{k=1}^{n-1} exp(-2 pi^2 sigma^2 k / (k + 1)), n clients.

    Kairouz, Liu and Steinke (2021, arXiv 2102.06387, the sum of discrete Gaussians; sigma >= 1/2): noise that clients
    add in shares is not exactly discrete Gaussian, and a claim has to allow for it. Checked in the tests against exact
    convolutions. Raises `ConfigError` below 1/2.
    """
    if sigma < 0.5:
        raise ConfigError(f"shares of discrete Gaussian noise need sigma >= 0.5 units each, got {sigma:g}: raise bits")
    k = np.arange(1, clients)
    return float(10 * np.exp(-2 * math.pi**2 * sigma**2 * k / (k + 1)).sum())


def _discrete_laplace(scale: int, size: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """At most `size` draws with probability proportional to exp(-|x| / scale): Algorithm 2 there."""
    low = generator.integers(scale, size=size)
    low = low[_coins(low / scale, generator, lambda i: Fraction(int(low[i]), scale))]
    high = np.zeros(len(low), np.int64)
    running = np.arange(len(low))
    while len(running):
        running = running[_coins(np.ones(len(running)), generator, lambda _: Fraction(1))]
        high[running] += 1
    magnitude = low + scale * high
    negative = generator.integers(2, size=len(low)).astype(bool)
    # Zero would otherwise come up twice, once with each sign.
    drawn: NDArray[np.int64] = np.where(negative, -magnitude, magnitude)[~(negative & (magnitude == 0))]
    return drawn


def _accepted(
    proposed: NDArray[np.int64], scale: int, sigma: float, exact: Fraction, generator: np.random.Generator
) -> NDArray[np.bool_]:
    exponents = (np.abs(proposed) - sigma**2 / scale) ** 2 / (2 * sigma**2)
    return _coins(exponents, generator, lambda i: (abs(int(proposed[i])) - exact / scale) ** 2 / (2 * exact))


def _coins(exponents: FloatArray, generator: np.random.Generator, exact: _Exponent) -> NDArray[np.bool_]:
    """Coins that show heads with probability exp(-x); `exact(i)` gives the i-th exponent x >= 0 as a fraction.

    A uniform number is known by its first 53 bits; where exp(-x), to its rounding error, falls into the cell they
    leave, more bits decide.
    """
    first = generator.integers(2**53, size=len(exponents))
    uniform = first * 2.0**-53
    # The exponent's own rounding error is multiplied by its size.
    probability = np.exp(-exponents)
    slack = _SLACK * (1 + exponents) * probability
    heads: NDArray[np.bool_] = uniform + 2.0**-53 <= probability - slack
    tails = (uniform >= probability + slack) & (first > 0)
    for i in np.flatnonzero(~heads & ~tails):
        heads[i] = _exact_coin(int(first[i]), exact(int(i)), generator)
    return heads


def _exact_coin(first: int, exponent: Fraction, generator: np.random.Generator) -> bool:
    """The same coin with 128 further bits and 80 digits: undecided with probability below 1e-38, then tails."""
    bits = (first << 128) | int.from_bytes(generator.bytes(16), "big")
    uniform = _PRECISE.divide(Decimal(bits), Decimal(1 << 181))
    minus = _PRECISE.divide(Decimal(-exponent.numerator), Decimal(exponent.denominator))
    return uniform < _PRECISE.exp(minus)
