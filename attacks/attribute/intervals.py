"""Differences of success rates on the same victims, and of such differences between two groups of victims."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import ndtri

from ...audit.types import BoolArray


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two rates in [-1, 1] with its standard error, and the centre its interval is drawn around."""

    value: float
    centre: float
    error: float

    def limits(self, confidence: float) -> tuple[float, float]:
        """The two-sided interval, which contains `value`."""
        reach = float(ndtri((1 + confidence) / 2)) * self.error
        low, high = max(-1.0, self.centre - reach), min(1.0, self.centre + reach)
        return min(low, self.value), max(high, self.value)

    def minus(self, other: Difference) -> Difference:
        """The difference to that of another, independent group; it lies in [-2, 2], its limits are cut to [-1, 1]."""
        error = sqrt(self.error**2 + other.error**2)
        return Difference(self.value - other.value, self.centre - other.centre, error)


def paired(first: BoolArray, second: BoolArray) -> Difference:
    """The rate at which `first` succeeds minus that of `second`, on the same victims (victims,).

    Wald's interval after adding one victim to each of the two discordant cells (Bonett and Price 2012, Journal of
    Educational and Behavioral Statistics 37, 479-488): close to its confidence from 25 victims on.
    """
    n = len(first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    p, q = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    return Difference(
        float(np.mean(first) - np.mean(second)) if n else 0.0, p - q, sqrt((p + q - (p - q) ** 2) / (n + 2))
    )


def unpaired(first: BoolArray, second: BoolArray) -> Difference:
    """The rate in one group minus that in another, independent group.

    Wald's interval after adding one success and one failure to each group (Agresti and Caffo 2000, The American
    Statistician 54, 280-288).
    """
    rates = [(int(group.sum()) + 1) / (len(group) + 2) for group in (first, second)]
    sizes = [len(group) + 2 for group in (first, second)]
    error = sqrt(sum(p * (1 - p) / n for p, n in zip(rates, sizes, strict=True)))
    return Difference(float(first.mean() - second.mean()), rates[0] - rates[1], error)
