"""Statistics of gradient canaries: projections of every released gradient to one score a canary.

A projection x is in units of the clipping norm: a canary that is inserted, sampled and clipped adds 1, noise has
standard deviation `noise_multiplier`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...audit.errors import ConfigError
from ...audit.registry import nearest
from ...audit.types import FloatArray, Scores


class Total:
    """Sum over steps: the score of Steinke, Nasr and Jagielski (2023, arXiv 2305.08846); best when q is 1."""

    name: ClassVar[str] = "sum"

    def __init__(self) -> None:
        self._value: Any = 0.0

    def update(self, projections: NDArray[np.float64]) -> None:
        """One step, (canaries,)."""
        self._value = self._value + projections

    def scores(self) -> NDArray[np.float64]:
        """(canaries,), higher for more likely inside."""
        return np.array(self._value, dtype=np.float64)


class Maximum:
    """Largest projection over steps: finds what shows in one step only, as with shuffling (theory: one large value)."""

    name: ClassVar[str] = "max"

    def __init__(self) -> None:
        self._value: Any = -np.inf

    def update(self, projections: NDArray[np.float64]) -> None:
        """One step, (canaries,)."""
        self._value = np.maximum(self._value, projections)

    def scores(self) -> NDArray[np.float64]:
        """(canaries,), higher for more likely inside."""
        return np.array(self._value, dtype=np.float64)


class LogLikelihoodRatio:
    """sum over steps of ln(1 - q + q exp((2 x - 1) / (2 sigma^2))): in against out, the optimal test for
    Poisson-subsampled Gaussian noise (Neyman and Pearson 1933), with the public q and the claimed sigma."""

    name: ClassVar[str] = "llr"

    def __init__(self, sample_rate: float, noise_multiplier: float) -> None:
        if not 0 < sample_rate <= 1:
            raise ConfigError(f"llr: sample_rate must lie in (0, 1], got {sample_rate}")
        if not noise_multiplier > 0:
            raise ConfigError(f"llr: noise_multiplier must be > 0, the claimed one, got {noise_multiplier}")
        self._out = np.log1p(-sample_rate) if sample_rate < 1 else -np.inf
        self._in, self.variance = np.log(sample_rate), noise_multiplier**2
        self._value: Any = 0.0

    def update(self, projections: NDArray[np.float64]) -> None:
        """One step, (canaries,)."""
        inside = self._in + (2 * projections - 1) / (2 * self.variance)
        self._value = self._value + np.logaddexp(self._out, inside)

    def scores(self) -> NDArray[np.float64]:
        """(canaries,), higher for more likely inside."""
        return np.array(self._value, dtype=np.float64)


class MeasuredRatio:
    """The likelihood ratio at the noise that is there instead of the noise that is claimed.

    In a step most projections are noise alone, so the median of their sizes tells its standard deviation without the
    truth; the average over steps so far serves as sigma. On correct runs it is as good as the claimed sigma, and it
    finds too little noise, which the ratio at the claimed sigma blurs (measured: docs/whitebox.md).
    """

    name: ClassVar[str] = "llr-measured"

    def __init__(self, sample_rate: float, noise_multiplier: float) -> None:
        self._ratio = LogLikelihoodRatio(sample_rate, noise_multiplier)
        # Without noise the median is 0; any small sigma then orders the canaries rightly.
        self._least = (LEAST_NOISE * noise_multiplier) ** 2
        self._variance, self._steps = 0.0, 0

    @property
    def noise_multiplier(self) -> float:
        """The noise measured so far, in units of the clipping norm."""
        return float(np.sqrt(self._variance))

    def update(self, projections: NDArray[np.float64]) -> None:
        """One step, (canaries,)."""
        self._steps += 1
        seen = (float(np.median(np.abs(projections))) / NORMAL_MEDIAN) ** 2
        self._variance += (seen - self._variance) / self._steps
        self._ratio.variance = max(self._variance, self._least)
        self._ratio.update(projections)

    def scores(self) -> NDArray[np.float64]:
        """(canaries,), higher for more likely inside."""
        return self._ratio.scores()


NORMAL_MEDIAN = 0.6744897501960817
"""The median of the size of a standard normal variable."""
LEAST_NOISE = 0.01
GradientStatistic = Total | Maximum | LogLikelihoodRatio | MeasuredRatio
STATISTICS = ("llr-measured", "llr", "sum", "max")


@dataclass(frozen=True, slots=True)
class GradientCanary:
    """The attack on a transcript: which statistic is the score. `sample_rate` and `noise_multiplier` are the claim's.

    It reads every released gradient (access `transcript`), so it works from a recorder or from stored projections and
    not from model outputs.
    """

    name: ClassVar[str] = "gradient"

    sample_rate: float
    noise_multiplier: float
    statistic: str = "llr-measured"

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS:
            near = nearest(self.statistic, [*STATISTICS])
            raise ConfigError(f"attack 'gradient': unknown statistic {self.statistic!r}{near}")
        LogLikelihoodRatio(self.sample_rate, self.noise_multiplier)

    def accumulators(self) -> list[GradientStatistic]:
        """Fresh accumulators of every statistic, for a recorder: all cost microseconds a step, one is the score."""
        claimed = (self.sample_rate, self.noise_multiplier)
        return [Total(), Maximum(), LogLikelihoodRatio(*claimed), MeasuredRatio(*claimed)]

    def score(self, projections: ArrayLike, records: Sequence[str]) -> Scores:
        """Scores from stored projections (steps, canaries), memory-mapped or not, read one step at a time."""
        steps: FloatArray = np.asanyarray(projections)
        if steps.ndim != 2 or steps.shape[1] != len(records) or not len(steps):
            raise ConfigError(f"projections have shape {steps.shape}, expected (steps, {len(records)})")
        (chosen,) = (s for s in self.accumulators() if s.name == self.statistic)
        for step in steps:
            chosen.update(np.asarray(step, dtype=np.float64))
        return Scores(chosen.scores(), tuple(records))
