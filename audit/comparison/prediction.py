"""Whether one more run belongs to the distribution that a baseline's seeds were drawn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit

from .figures import Observation


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a further run of the same code should show: Student's prediction interval for one future draw.

    With seeds' values y_1 .. y_k of common mean and variance and a new y_0 of the same law,
    (y_0 - mean) / (s sqrt(1 + 1/k)) has Student's law with k - 1 degrees of freedom if the y are normal
    (Hahn 1969; exact). s^2 holds both parts of the variance, between seeds and within a run. It is replaced by
    the within-run variance known from the counts where it came out smaller: a larger denominator only lowers the
    rate of false alarms. `mean` and `spread` are on the comparison's scale.
    """

    mean: float
    spread: float
    seeds: int

    @classmethod
    def of(cls, observations: Sequence[Observation]) -> Prediction:
        """From the values of at least two seeds."""
        k = len(observations)
        mean = math.fsum(o.scaled for o in observations) / k
        between = math.fsum((o.scaled - mean) ** 2 for o in observations) / (k - 1)
        within = math.fsum(o.variance for o in observations) / k
        return cls(mean, math.sqrt(max(between, within)), k)

    def error(self, variance: float = 0.0) -> float:
        """Standard error of (new - mean); `variance` is the new run's own, where it is larger than the seeds'."""
        return math.sqrt(self.spread**2 / self.seeds + max(self.spread**2, variance))

    def p_value(self, new: Observation) -> float:
        """Probability that a run of the same law lies at least so far above the seeds' mean."""
        return float(stdtr(self.seeds - 1, (self.mean - new.scaled) / self.error(new.variance)))

    def limits(self, level: float, variance: float = 0.0) -> tuple[float, float]:
        """The range that a new run leaves on either side with probability `level` each."""
        reach = float(stdtrit(self.seeds - 1, 1 - level)) * self.error(variance)
        return self.mean - reach, self.mean + reach

    def mean_limits(self, level: float) -> tuple[float, float]:
        """The range of the seeds' mean itself, `level` on either side: for trends."""
        reach = float(stdtrit(self.seeds - 1, 1 - level)) * self.spread / math.sqrt(self.seeds)
        return self.mean - reach, self.mean + reach
