"""What the selftest found: one cell for each bound on each mechanism, and whether each kept its word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

ROUNDING = 0.005
"""The limit table is printed with two decimals."""


@dataclass(frozen=True, slots=True)
class FalseClaimCell:
    """How often a bound at level `alpha` claimed more than the true epsilon.

    `trials` is 0 where the probability was enumerated exactly; then `claims` is 0 too and `standard_error` 0.
    `judged` is false for bounds that promise no frequency (`bayesian`).
    """

    method: str
    mechanism: str
    epsilon: float
    delta: float
    alpha: float
    rate: float
    claims: int = 0
    trials: int = 0
    judged: bool = True

    @classmethod
    def counted(
        cls, method: str, mechanism: str, truth: tuple[float, float], alpha: float, claims: int, trials: int
    ) -> FalseClaimCell:
        """A simulated cell; `truth` is epsilon and delta."""
        return cls(method, mechanism, *truth, alpha, claims / trials, claims, trials, method != "bayesian")

    @property
    def standard_error(self) -> float:
        """Of the rate, if it is the nominal one."""
        return math.sqrt(self.alpha * (1 - self.alpha) / self.trials) if self.trials else 0.0

    @property
    def passed(self) -> bool:
        """At most nominal plus three standard errors (plus rounding, where exact)."""
        return not self.judged or self.rate <= self.alpha * (1 + 1e-9) + 3 * self.standard_error

    def to_json(self) -> dict[str, Any]:
        """Fields and verdict."""
        return {**asdict(self), "standard_error": self.standard_error, "passed": self.passed}


@dataclass(frozen=True, slots=True)
class PowerCell:
    """The median bound with optimal scores, next to the limit of its method; `trials` 0 where the median is exact."""

    method: str
    mechanism: str
    epsilon: float
    canaries: int
    delta: float
    median: float
    limit: float
    trials: int
    design: str

    @property
    def ratio(self) -> float:
        """Of the median to the limit; 1 where the limit itself is 0."""
        return self.median / self.limit if self.limit > 0 else 1.0

    @property
    def passed(self) -> bool:
        """At least 0.95 of the limit, which is known to two decimals."""
        return self.median >= 0.95 * (self.limit - ROUNDING)

    def to_json(self) -> dict[str, Any]:
        """Fields, ratio and verdict."""
        return {**asdict(self), "ratio": self.ratio, "passed": self.passed}


@dataclass(frozen=True, slots=True)
class SelftestReport:
    """All cells of one selftest."""

    trials: int
    thorough: bool
    seed: int
    seconds: float
    versions: dict[str, str]
    false_claims: tuple[FalseClaimCell, ...]
    power: tuple[PowerCell, ...]

    @property
    def passed(self) -> bool:
        """Whether every cell passed."""
        return all(c.passed for c in self.false_claims) and all(c.passed for c in self.power)

    def to_json(self) -> dict[str, Any]:
        """One document."""
        return {
            "schema": "leakgauge/selftest/1",
            "passed": self.passed,
            "trials": self.trials,
            "thorough": self.thorough,
            "seed": self.seed,
            "seconds": self.seconds,
            "versions": self.versions,
            "false_claims": [cell.to_json() for cell in self.false_claims],
            "power": [cell.to_json() for cell in self.power],
        }

    def table(self) -> list[str]:
        """Lines of plain text in columns: false claims, then power."""
        coverage: list[tuple[str, ...]] = [
            ("bound", "mechanism", "true eps", "delta", "nominal", "rate", "claims", "trials", "verdict")
        ]
        coverage += [_coverage_row(cell) for cell in self.false_claims]
        power: list[tuple[str, ...]] = [
            ("bound", "mechanism", "m", "median", "limit", "ratio", "trials", "design", "verdict")
        ]
        power += [_power_row(cell) for cell in self.power]
        return [
            "False claims: how often a bound exceeds the true epsilon",
            *_aligned(coverage),
            "",
            "Power: median bound with optimal scores at confidence 0.95, next to the limit of its method",
            *_aligned(power),
        ]


def _coverage_row(cell: FalseClaimCell) -> tuple[str, ...]:
    counted = (str(cell.claims), str(cell.trials)) if cell.trials else ("-", "exact")
    verdict = ("ok" if cell.passed else "FAILED") if cell.judged else "no promise"
    numbers = (f"{cell.epsilon:.4g}", f"{cell.delta:g}", f"{cell.alpha:g}", f"{cell.rate:.3g}")
    return (cell.method, cell.mechanism, *numbers, *counted, verdict)


def _power_row(cell: PowerCell) -> tuple[str, ...]:
    numbers = (
        f"{cell.median:.3f}",
        f"{cell.limit:.2f}",
        f"{cell.ratio:.2f}",
        str(cell.trials) if cell.trials else "exact",
    )
    return (cell.method, cell.mechanism, str(cell.canaries), *numbers, cell.design, "ok" if cell.passed else "FAILED")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
