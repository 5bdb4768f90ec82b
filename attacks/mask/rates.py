"""How likely is a mask under shadow masks with a record, and under those without it? Bit by bit, shrunk or selected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...audit.types import BoolArray

Floats = NDArray[np.float64]

NUMBERS = 1 << 22
"""Rates worked on at a time (32 MB)."""
STIFFEST = 1e4
"""Largest prior strength: beyond it the score is linear in the bits, and would only lose digits."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of ones among shadows trained with a record (`inside`) and without it (`outside`), (records, d), and how
    many shadows there were, (records, 1)."""

    inside: Floats
    outside: Floats
    with_it: Floats
    without_it: Floats

    @property
    def difference(self) -> Floats:
        """inside - outside, (records, d)."""
        return self.inside - self.outside

    def noise(self, common: Floats) -> Floats:
        """Variance (records, d) of `difference` if membership did not matter: that of dealing the ones of all shadows,
        of which `common` (d,) is the share, to the two sides at random (sampling without replacement)."""
        shadows = self.with_it + self.without_it
        spread = shadows / np.maximum(shadows - 1, 1) * common * (1 - common)
        out: Floats = spread * (1 / self.with_it + 1 / self.without_it)
        return out


def rates_of(bits: BoolArray, inside: BoolArray) -> Rates:
    """Rates of shadows' `bits` (shadows, d) for records whose membership is `inside` (shadows, records). A side without
    a shadow gets the rates of all."""
    # float32 counts shadows exactly, at half the time of float64.
    ones = bits.astype(np.float32)
    members = inside.astype(np.float32).T
    got = (members @ ones).astype(np.float64)
    total = ones.sum(axis=0, dtype=np.float64)
    with_it = members.sum(axis=1, dtype=np.float64)[:, None]
    without_it = len(bits) - with_it
    common = total / len(bits)
    one_sided = (with_it == 0) | (without_it == 0)
    within = np.where(one_sided, common, got / np.maximum(with_it, 1))
    beside = np.where(one_sided, common, (total - got) / np.maximum(without_it, 1))
    return Rates(within, beside, np.maximum(with_it, 1), np.maximum(without_it, 1))


def log_ratio(bits: BoolArray, inside: Floats, outside: Floats) -> Floats:
    """sum_j log P_inside(bit j) - log P_outside(bit j) of independent bits (d,), rates (records, d) strictly between 0
    and 1: the most powerful test there is of known rates (Neyman and Pearson 1933). (records,); higher for members."""
    one = np.log(inside) - np.log(outside)
    zero = np.log1p(-inside) - np.log1p(-outside)
    out: Floats = np.where(bits, one, zero).sum(axis=1)
    return out


def smoothed(rates: Rates, common: Floats, strength: float) -> tuple[Floats, Floats]:
    """Posterior means of both sides' rates under Beta laws around `common` (d,) that count as `strength` shadows."""
    inside = (rates.inside * rates.with_it + strength * common) / (rates.with_it + strength)
    outside = (rates.outside * rates.without_it + strength * common) / (rates.without_it + strength)
    return inside, outside


def prior_strength(excess: float, per_side: float) -> float:
    """Strength c of the Beta laws whose own variance explains the share `excess` of what differences of rates vary by.

    True rates of variance common (1 - common) / (c + 1), seen through n = `per_side` shadows, differ between the sides
    by 2 common (1 - common) (1 + c / n) / (c + 1) in the mean square, of which chance alone would give 2 common
    (1 - common) / n: the share is (n - 1) / (n + c), solved for c.
    """
    if excess <= 0:
        return STIFFEST
    return float(min(STIFFEST, max(0.0, (per_side - 1) / excess - per_side)))


def excess_share(bits: BoolArray, inside: BoolArray, common: Floats) -> float:
    """1 - noise / observed variance of the differences of rates, over all records and bits that vary: 0 where bits tell
    nothing about records."""
    seen = chance = 0.0
    for part in chunks(inside.shape[1], bits.shape[1]):
        rates = rates_of(bits, inside[:, part])
        seen += float(np.square(rates.difference).sum())
        chance += float(rates.noise(common).sum())
    return max(0.0, 1 - chance / seen) if seen > 0 else 0.0


def best_bits(rates: Rates, common: Floats, keep: int) -> NDArray[np.intp]:
    """(records, keep): each record's bits whose rates differ most, in standard deviations of chance."""
    noise = rates.noise(common)
    strength = np.where(noise > 0, np.square(rates.difference) / np.where(noise > 0, noise, 1.0), 0.0)
    keep = min(keep, strength.shape[1])
    return np.argpartition(-strength, keep - 1, axis=1)[:, :keep]


def chunks(records: int, dimension: int) -> Iterator[slice]:
    """Slices of records whose rates fit into memory."""
    step = max(1, NUMBERS // max(1, dimension))
    for start in range(0, records, step):
        yield slice(start, start + step)
