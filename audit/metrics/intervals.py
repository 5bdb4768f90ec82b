"""Exact binomial intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with a two-sided confidence interval around it."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """`{value, low, high}`."""
        return asdict(self)


def check_confidence(confidence: float) -> None:
    """Refuse a confidence outside (0, 1)."""
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie strictly between 0 and 1, got {confidence}")


def clopper_pearson(
    successes: ArrayLike, trials: ArrayLike, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two-sided exact limits (low, high) for a binomial probability, elementwise (Clopper and Pearson 1934).

    Each side errs with probability at most (1 - confidence) / 2. `ConfigError` unless 0 <= successes <= trials >= 1.
    """
    check_confidence(confidence)
    k, n = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    if not ((k >= 0) & (k <= n) & (n >= 1)).all():
        raise ConfigError(f"successes must lie between 0 and trials, and trials be at least 1, got {k} of {n}")
    tail = (1 - confidence) / 2
    # Where a shape parameter would be 0 the limit is 0 or 1; the maximum only keeps the inverse defined there.
    low = np.where(k == 0, 0.0, betaincinv(np.maximum(k, 1), n - k + 1, tail))
    high = np.where(k == n, 1.0, betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail))
    return low, high


def binomial_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The rate successes / trials between its Clopper-Pearson limits."""
    low, high = clopper_pearson(successes, trials, confidence)
    return Interval(successes / trials, float(low), float(high))


def accuracy_interval(correct: int, n: int, confidence: float = 0.95) -> Interval:
    """Accuracy of a classifier right on `correct` of `n` independent test records, with Clopper-Pearson limits."""
    return binomial_interval(correct, n, confidence)


def as_json(value: Any) -> Any:
    """`value` for a JSON document: non-finite numbers are absent (null), numpy scalars plain."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
