"""Exposure of a secret: by how many bits a model prefers it to the other secrets it might have been.

Carlini et al. 2019 (arXiv 1802.08232): exposure = log2 |R| - log2 rank among all |R| candidates, which is -log2 of the
share of candidates at least as likely. A secret that the model never saw has exposure 1.44 bits on average. Exposure is
no epsilon: see `docs/bounds/k-ary.md` for what ranks certify.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from ..errors import ConfigError
from .intervals import clopper_pearson

FIT_LEVEL = 0.01
"""A fitted law that the Kolmogorov-Smirnov test rejects at this level is not extrapolated."""


@dataclass(frozen=True, slots=True)
class SampledExposure:
    """Exposure from a random sample of candidates, in bits.

    `value` is None where no candidate of the sample is as likely as the secret; `low` and `high` are one-sided limits
    at the confidence asked for (`high` infinite where `value` is None).
    """

    value: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ExtrapolatedExposure:
    """Exposure from a skew-normal law fitted to a sample of candidates. `fits` is false where `p_value`, that of the
    Kolmogorov-Smirnov test of the fit, is below `FIT_LEVEL`: then `value` is not to be used."""

    value: float
    p_value: float

    @property
    def fits(self) -> bool:
        """Whether the law passes the test."""
        return self.p_value >= FIT_LEVEL


def pessimistic_rank(log_probabilities: NDArray[np.float64], position: int) -> int:
    """Rank of one candidate among all, 1 for the most likely; of equals it comes last."""
    return int(np.sum(log_probabilities >= log_probabilities[position]))


def exact_exposure(rank: int, space: int) -> float:
    """log2(space) - log2(rank), in bits: from 0 to log2(space)."""
    if not 1 <= rank <= space:
        raise ConfigError(f"rank must lie in [1, {space}], got {rank}")
    return math.log2(space) - math.log2(rank)


def sampled_exposure(losses: NDArray[np.float64], own: float, confidence: float = 0.95) -> SampledExposure:
    """Exposure of a secret with loss `own` (negative log-probability; lower is likelier) by the share of uniformly
    drawn candidates whose `losses` are at most that, with Clopper-Pearson limits."""
    n, hits = len(losses), int(np.sum(losses <= own))
    # Both sides at `confidence`: a two-sided interval of twice the error.
    low, high = clopper_pearson(hits, n, 2 * confidence - 1)
    value = -math.log2(hits / n) if hits else None
    return SampledExposure(value, -math.log2(float(high)), -math.log2(float(low)) if hits else math.inf)


def extrapolated_exposure(losses: NDArray[np.float64], own: float) -> ExtrapolatedExposure:
    """-log2 F(own) for the skew-normal F of greatest likelihood to `losses` of uniformly drawn candidates.

    The parameters are fitted to the values tested, which makes the test lenient.
    """
    scale = float(losses.std()) or 1.0
    standard = (losses - losses.mean()) / scale
    law = stats.skewnorm(*_fit(standard))
    p_value = float(stats.kstest(standard, law.cdf).pvalue)
    log_tail = float(law.logcdf((own - losses.mean()) / scale))
    return ExtrapolatedExposure(-log_tail / math.log(2), p_value)


def _fit(standard: NDArray[np.float64]) -> tuple[float, float, float]:
    """Shape, location and scale of the skew-normal law of greatest likelihood."""
    # From the moments; a start at shape 0 is a saddle point.
    skew = float(np.clip(stats.skew(standard), -0.9, 0.9))
    power = abs(skew) ** (2 / 3)
    delta = math.copysign(math.sqrt(math.pi / 2 * power / (power + ((4 - math.pi) / 2) ** (2 / 3))), skew)
    delta = float(np.clip(delta, -0.99, 0.99))
    width = 1 / math.sqrt(1 - 2 * delta**2 / math.pi)
    start = delta / math.sqrt(1 - delta**2)
    first = np.array([start, -width * delta * math.sqrt(2 / math.pi), math.log(width)])
    found = optimize.minimize(_loss, first, args=(standard,), jac=True, method="BFGS")
    shape, location, log_scale = (float(v) for v in found.x)
    return shape, location, math.exp(log_scale)


def _loss(parameters: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Mean negative log-likelihood, without constants, and its gradient, at (shape, location, log of the scale)."""
    shape, location, log_scale = parameters
    scale = math.exp(min(max(log_scale, -20.0), 20.0))
    z = (x - location) / scale
    log_tail = special.log_ndtr(shape * z)
    ratio = np.exp(-((shape * z) ** 2) / 2 - log_tail) / math.sqrt(2 * math.pi)
    value = log_scale + np.mean(z**2) / 2 - log_tail.mean()
    slope = np.array(
        [-np.mean(ratio * z), np.mean(shape * ratio - z) / scale, 1 + np.mean(shape * ratio * z) - np.mean(z**2)]
    )
    return float(value), slope


def median_interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float, float]:
    """(median, low, high): the distribution-free interval between order statistics; the extremes where there are too
    few values."""
    ordered, n = np.sort(values), len(values)
    below = int(stats.binom.ppf((1 - confidence) / 2, n, 0.5))
    return float(np.median(ordered)), float(ordered[max(0, below - 1)]), float(ordered[min(n - 1, n - below)])
