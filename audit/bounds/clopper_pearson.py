"""`clopper-pearson`: many independent runs, exact intervals for both error rates, both directions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .binomial import upper_limit
from .counts import ConfusionCounts
from .method import Certifying


@dataclass(frozen=True, slots=True)
class ErrorLimits:
    """Upper confidence limits of both error rates; jointly wrong with probability at most alpha."""

    false_positive_rate: float
    false_negative_rate: float

    @classmethod
    def of(cls, counts: ConfusionCounts, alpha: float) -> ErrorLimits:
        """Each limit at alpha / 2."""
        return cls(
            upper_limit(counts.false_positives, counts.nonmembers, alpha / 2),
            upper_limit(counts.false_negatives, counts.members, alpha / 2),
        )


@dataclass(frozen=True, slots=True)
class ClopperPearson(Certifying[ConfusionCounts]):
    """epsilon >= ln((1 - delta - FNR) / FPR) and ln((1 - delta - FPR) / FNR) at the upper limits of both rates.

    Any mechanism; independent runs, one canary each, a threshold fixed before the truth is read. The two
    inequalities: Kairouz, Oh and Viswanath (2015, arXiv 1311.0776, Theorem 2.1). As an audit: Jagielski, Ullman and
    Oprea (2020, arXiv 2006.07709); Nasr et al. (2021, arXiv 2101.04535).
    """

    name: ClassVar[str] = "clopper-pearson"
    counts_type: ClassVar[type] = ConfusionCounts

    def epsilon_lower(self, counts: ConfusionCounts, *, delta: float, alpha: float) -> float:
        """The larger of the two directions, and 0."""
        self.check_levels(delta, alpha)
        limits = ErrorLimits.of(counts, alpha)
        one = _log_ratio(1 - delta - limits.false_negative_rate, limits.false_positive_rate)
        other = _log_ratio(1 - delta - limits.false_positive_rate, limits.false_negative_rate)
        return max(one, other, 0.0)


def _log_ratio(numerator: float, denominator: float) -> float:
    return math.log(numerator / denominator) if numerator > 0 else -math.inf
