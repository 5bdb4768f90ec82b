"""Mean and variance of the logit signal over the shadows that saw a record and over those that did not, in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...audit.types import BoolArray, Evidence
from .signals import logit


@dataclass(frozen=True, slots=True)
class Moments:
    """Over one side's shadows, per record (records,): how many, their mean, and the sum of squared deviations from it.

    The mean of a record without a shadow on this side is 0 and means nothing: ask `count` first.
    """

    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    def pooled_variance(self) -> float:
        """Within-record variance pooled over all records; 1 where no record has two shadows on this side.

        Without an estimate any common value gives the same order of one-sided scores, and of ratios of equal variance.
        """
        freedom = int(np.maximum(self.count - 1, 0).sum())
        return float(self.squares.sum() / freedom) if freedom else 1.0

    def variance(self) -> NDArray[np.float64]:
        """Unbiased variance per record; the pooled one where a record has fewer than two shadows on this side."""
        own = self.squares / np.maximum(self.count - 1, 1)
        return np.where(self.count > 1, own, self.pooled_variance())


@dataclass(frozen=True, slots=True)
class Sides:
    """Moments over the shadows trained with a record (`inside`) and without it (`outside`)."""

    inside: Moments
    outside: Moments


def logit_moments(evidence: Evidence, shadows: int) -> Sides:
    """Moments of the logit over the first `shadows` shadow models. One shadow is in memory at a time."""
    records = len(evidence.records)
    inside, outside = _Running(records), _Running(records)
    for shadow in range(shadows):
        signal = logit(evidence.shadows[shadow], evidence.labels)
        member = np.asarray(evidence.shadow_inside[shadow], dtype=np.bool_)
        inside.add(signal, member)
        outside.add(signal, ~member)
    return Sides(inside.moments(), outside.moments())


class _Running:
    """Welford's update (1962): exact to rounding whatever the size of the mean."""

    def __init__(self, records: int) -> None:
        self.count = np.zeros(records, dtype=np.int64)
        self.mean = np.zeros(records)
        self.squares = np.zeros(records)

    def add(self, values: NDArray[np.float64], where: BoolArray) -> None:
        self.count += where
        change = np.where(where, values - self.mean, 0.0)
        self.mean += change / np.maximum(self.count, 1)
        self.squares += change * (values - self.mean)

    def moments(self) -> Moments:
        return Moments(self.count, self.mean, self.squares)
