"""Shamir's secret sharing (1979, CACM 22(11), p. 612) over the prime field of 2^521 - 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from ...audit.errors import ConfigError, IncompatibleError

PRIME = 2**521 - 1
"""A Mersenne prime well above the 256-bit keys that are shared."""


def split(secret: int, holders: Sequence[int], threshold: int, *, generator: np.random.Generator) -> dict[int, int]:
    """One share for each holder (distinct integers >= 1); any `threshold` of them determine `secret`, fewer nothing.

    The other coefficients are uniform below 2^520 rather than below the prime: enough for a simulation.
    """
    if not 1 <= threshold <= len(holders):
        raise ConfigError(f"secret sharing: threshold must lie in 1..{len(holders)} holders, got {threshold}")
    if not 0 <= secret < PRIME or min(holders) < 1 or len(set(holders)) != len(holders):
        raise ConfigError("secret sharing: the secret must be in the field and holders distinct integers >= 1")
    drawn = generator.bytes(65 * (threshold - 1))
    higher = [int.from_bytes(drawn[65 * i : 65 * i + 65], "big") for i in range(threshold - 1)]
    return {holder: _polynomial([secret, *higher], holder) for holder in holders}


def combine(shares: Mapping[int, int], threshold: int) -> int:
    """The secret from at least `threshold` shares by holder.

    Raises `IncompatibleError` where there are fewer: the secret is then undetermined.
    """
    if len(shares) < threshold:
        raise IncompatibleError(f"secret sharing: {len(shares)} shares of the {threshold} needed")
    holders = tuple(sorted(shares)[:threshold])
    weights = _weights_at_zero(holders)
    return sum(w * shares[h] for w, h in zip(weights, holders, strict=True)) % PRIME


def _polynomial(coefficients: Sequence[int], at: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * at + coefficient) % PRIME
    return value


@lru_cache(maxsize=256)
def _weights_at_zero(holders: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's weights: the same holders answer for many secrets, so they are kept."""
    weights = []
    for i in holders:
        above, below = 1, 1
        for j in holders:
            if j != i:
                above = above * j % PRIME
                below = below * (j - i) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)
