"""One figure of a run beside what a further seed of its baseline should show."""

from __future__ import annotations

from dataclasses import dataclass

from .baseline import BaselineFinding
from .figures import Observation, unscaled
from .holm import Decision
from .prediction import Prediction


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure of the run beside the range that a further seed of the baseline would stay in.

    `effect` = value - expected, with the interval `effect_interval`; positive leaks more, except where `better` is
    `higher` (a reconstruction's error). The range misses a further seed on the harmful side with probability `level`;
    `adjusted` is the p-value after Holm's correction over all findings. `seeds` and `n` (records, canaries or guesses
    of one run) say what it rests on. `visible`: the most that the design can show lies outside the range, so that a
    regression could be seen at all. `above`: the run leaks more than the whole range; `below`: less. `saturated`: the
    baseline leaks nearly all there is.
    """

    statistic: str
    value: float
    expected: float
    low: float
    high: float
    p_value: float
    adjusted: float
    level: float
    seeds: int
    n: int
    better: str
    above: bool
    below: bool
    visible: bool
    saturated: bool

    @property
    def effect(self) -> float:
        """How much more the run leaks than the baseline's mean."""
        return self.value - self.expected

    @property
    def effect_interval(self) -> tuple[float, float]:
        """Excludes 0 exactly where the value lies outside the range."""
        return self.value - self.high, self.value - self.low


def measure_against(old: BaselineFinding, prediction: Prediction, seen: Observation, decision: Decision) -> Measured:
    """The run's figure `seen` beside the prediction of the baseline's seeds, at the level that Holm's order gave it."""
    statistic = old.statistic or ""
    better = old.figures[statistic].better or "lower"
    low, high = prediction.limits(decision.level, seen.variance)
    # With no variance of training and endless seeds the records' own would remain.
    sharpest = Prediction(prediction.mean, seen.variance**0.5, 10**6)

    def back(scaled: float) -> float:
        return unscaled(statistic, scaled, seen.n, better)

    # Where more is better for privacy, the scale is turned round.
    reported = sorted((back(low), back(high)))
    return Measured(
        statistic=statistic,
        value=seen.value,
        expected=back(prediction.mean),
        low=reported[0],
        high=reported[1],
        p_value=prediction.p_value(seen),
        adjusted=decision.adjusted,
        level=decision.level,
        seeds=prediction.seeds,
        n=seen.n,
        better=better,
        above=decision.rejected,
        below=seen.scaled < low,
        visible=seen.perfect > high,
        saturated=seen.perfect <= sharpest.limits(decision.level)[1],
    )
