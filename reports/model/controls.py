"""How the audit audits itself."""

# Pydantic copies defaults; ruff knows that only where BaseModel itself is the base.
# ruff: noqa: RUF012

from __future__ import annotations

from .metrics import Interval
from .part import Count, Epsilon, Part, Probability


class PositiveFigure(Part):
    """The same attack on the twin trained without protection: it must find leakage."""

    trainer: str
    attack: str
    epsilon: Epsilon | None = None
    reported_epsilon: Epsilon | None = None
    ceiling: Epsilon | None = None
    claim: Epsilon | None = None
    auc: float | Interval | None = None

    @property
    def at_confidence(self) -> float | None:
        """Epsilon at the reporting confidence where it is stored, to stand beside certified bounds; else as judged."""
        return self.epsilon if self.reported_epsilon is None else self.reported_epsilon


class NegativeFigure(Part):
    """The same attack judged on membership that was never used: it must find nothing."""

    trainer: str
    attack: str
    epsilon: Epsilon | None = None
    alpha: Probability | None = None


class BlindFigure(Part):
    """A classifier that sees the records but no model: it must not tell members from non-members."""

    auc: float | Interval | None = None
    low: Probability | None = None
    high: Probability | None = None
    p_value: Probability | None = None
    least_p_value: Probability | None = None
    alpha: Probability | None = None
    classifier: str | None = None
    separates: bool | None = None
    powered: bool | None = None
    records: Count | None = None


class PositiveControl(Part):
    """The unprotected twin."""

    passed: bool | None = None
    figures: list[PositiveFigure] = []


class NegativeControl(Part):
    """Permuted membership, or canaries that were never inserted."""

    passed: bool | None = None
    figures: list[NegativeFigure] = []


class BlindControl(Part):
    """The blind baseline."""

    passed: bool | None = None
    figures: list[BlindFigure] = []


class Controls(Part):
    """How the audit audits itself. A control that was not run is null."""

    positive: PositiveControl | None = None
    negative: NegativeControl | None = None
    blind: BlindControl | None = None
