"""`gdp`: many independent runs against a mechanism taken to be Gaussian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from scipy import special

from .clopper_pearson import ErrorLimits
from .counts import ConfusionCounts
from .gaussian import gaussian_epsilon
from .method import Certifying


@dataclass(frozen=True, slots=True)
class Gdp(Certifying[ConfusionCounts]):
    """mu >= Phi^-1(1 - FPR) - Phi^-1(FNR) at the upper limits of both rates, turned into epsilon at delta > 0.

    Rejects mu-GDP mechanisms only: on randomised response it would certify 2.5 to 6 times the truth, so it is refused
    there (`refuse_outside_family`). Nasr et al. (2023, arXiv 2302.07956); Dong, Roth and Su (2019, arXiv 1905.02383).
    """

    name: ClassVar[str] = "gdp"
    counts_type: ClassVar[type] = ConfusionCounts
    needs_delta: ClassVar[bool] = True

    @property
    def null_class(self) -> str:
        """Gaussian mechanisms."""
        return "gdp"

    def mu_lower(self, counts: ConfusionCounts, *, alpha: float) -> float:
        """The lower bound on mu, 0 if the rates show none."""
        limits = ErrorLimits.of(counts, alpha)
        # No absolute value here: published code that took abs() of a negative mu certified 3.5 on pure noise.
        mu = -special.ndtri(limits.false_positive_rate) - special.ndtri(limits.false_negative_rate)
        return max(float(mu), 0.0)

    def epsilon_lower(self, counts: ConfusionCounts, *, delta: float, alpha: float) -> float:
        """Epsilon at `delta` of the least leaky Gaussian mechanism that is not rejected."""
        self.check_levels(delta, alpha)
        return gaussian_epsilon(self.mu_lower(counts, alpha=alpha), delta)
