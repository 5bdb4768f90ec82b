"""The noise multiplier that an outsider measures: how far one client moves the output against the noise it is in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from .errors import ConfigError
from .types import FloatArray

_ROUNDING = 1e-9
_FAR = 20.0


@dataclass(frozen=True, slots=True)
class EffectiveNoise:
    """An estimate of sd / shift with its confidence interval; infinite where one client moves nothing.

    `shift` is how far the mean moves when the client takes part, `deviation` the noise's standard deviation. 0 where
    there is a shift and no noise.
    """

    value: float
    low: float
    high: float
    shift: float
    deviation: float
    confidence: float


def effective_noise(without: FloatArray, within: FloatArray, *, confidence: float = 0.95) -> EffectiveNoise:
    """From outputs along one direction, without the client (runs,) and with it (runs,), independent runs.

    The interval inverts the noncentral t law of the two-sample t statistic, so it is exact for Gaussian noise of the
    same scale on both sides (Hedges and Olkin 1985, chapter 5). A sound mechanism has a value of at least its claimed
    noise multiplier. Raises `ConfigError` for fewer than 10 runs or outputs that are not finite.
    """
    first, second = np.asarray(without, np.float64), np.asarray(within, np.float64)
    if min(len(first), len(second)) < 10:
        raise ConfigError(f"effective noise needs at least 10 runs a side, got {len(first)} and {len(second)}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ConfigError("effective noise: an output is NaN or infinite; probe the aggregation's inputs first")
    freedom = len(first) + len(second) - 2
    shift = float(second.mean() - first.mean())
    squares = ((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum()
    deviation = math.sqrt(float(squares) / freedom)
    scale = float(max(np.abs(first).max(), np.abs(second).max()))
    if deviation <= _ROUNDING * scale:
        known = 0.0 if abs(shift) > _ROUNDING * scale else math.inf
        return EffectiveNoise(known, known, known, shift, deviation, confidence)
    weight = math.sqrt(len(first) * len(second) / (len(first) + len(second)))
    low, high = _noncentrality(abs(shift) / deviation * weight, freedom, 1 - confidence)
    return EffectiveNoise(
        value=deviation / abs(shift) if shift else math.inf,
        low=weight / high if high > 0 else math.inf,
        high=weight / low if low > 0 else math.inf,
        shift=shift,
        deviation=deviation,
        confidence=confidence,
    )


def _noncentrality(t: float, freedom: int, alpha: float) -> tuple[float, float]:
    """The interval of |noncentrality| for an absolute t statistic; its lower end is 0 where the sign is in doubt.

    Far out the error of the shift vanishes beside that of the deviation, whose law is chi-square (to 0.3 %).
    """
    if t > _FAR * math.sqrt(freedom):
        low, high = (float(stats.chi2.ppf(tail, freedom)) for tail in (alpha / 2, 1 - alpha / 2))
        return t * math.sqrt(low / freedom), t * math.sqrt(high / freedom)
    reach = 10 * math.sqrt(1 + t**2 / (2 * freedom)) + 1

    def solve(tail: float) -> float:
        def above(d: float) -> float:
            return float(stats.nct.cdf(t, freedom, d)) - tail

        # The cdf falls in d, so a cdf below the tail at 0 means that only negative values fit.
        return 0.0 if above(0.0) <= 0 else float(optimize.brentq(above, max(t - reach, 0.0), t + reach))

    return solve(1 - alpha / 2), solve(alpha / 2)
