"""Guesses of independent coins by Hoeffding's inequality: weaker than `one-run`, and three lines long."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from leakgauge.audit.bounds import GuessCounts
from leakgauge.audit.bounds.method import Certifying


@dataclass(frozen=True, slots=True)
class Hoeffding(Certifying[GuessCounts]):
    """(epsilon, 0)-DP allows at most a share e^epsilon / (1 + e^epsilon) of right guesses, in the mean."""

    name: ClassVar[str] = "hoeffding"
    counts_type: ClassVar[type] = GuessCounts

    def epsilon_lower(self, counts: GuessCounts, *, delta: float, alpha: float) -> float:
        self.check_levels(delta, alpha)
        share = counts.correct / counts.guesses - math.sqrt(math.log(1 / alpha) / (2 * counts.guesses))
        return 0.0 if share <= 0.5 else math.log(share / (1 - share))
