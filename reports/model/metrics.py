"""What the scores of an attack show: estimates with intervals, rates, curves, named measures."""

# Pydantic copies defaults; ruff knows that only where BaseModel itself is the base.
# ruff: noqa: RUF012

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from .part import Count, Label, Part, Probability


class Interval(Part):
    """An estimate and its confidence interval at the design's `confidence`. A null value carries its `reason`."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: Count | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low:g} lies above high {self.high:g}")
        return self


class OperatingPoint(Part):
    """What a plain threshold attains where equal scores leave none at the rate asked for."""

    value: Probability
    fpr: Probability


class Rate(Interval):
    """A true-positive rate: the false-positive rate really attained, and the score above which records are called."""

    fpr: Probability | None = None
    above: float | None = None
    attainable: OperatingPoint | None = None
    tie_fraction: Probability | None = None


class Roc(Part):
    """True-positive against false-positive rate, with the band `low`..`high` of the true-positive rate."""

    fpr: list[Probability]
    tpr: list[Probability]
    low: list[Probability] = []
    high: list[Probability] = []
    true_positives: list[Count] = []
    false_positives: list[Count] = []

    @model_validator(mode="after")
    def _aligned(self) -> Roc:
        optional = (self.low, self.high, self.true_positives, self.false_positives)
        lengths = {len(self.fpr), len(self.tpr)} | {len(part) for part in optional if part}
        if len(lengths) != 1 or bool(self.low) != bool(self.high):
            raise ValueError("the lists differ in length")
        return self


class Baseline(Interval):
    """What an attacker without the model reaches; `name` says how it guesses."""

    name: Label | None = None


class Measure(Interval):
    """A further named figure. `better` is the direction that protects people: `lower` means smaller is more private.

    `n` counts independent units (victims, canaries, clients), not pixels or tokens.
    """

    baseline: Baseline | None = None
    unit: Label | None = None
    better: Literal["lower", "higher"] | None = None


class Metrics(Part):
    """What the scores of one attack show, with intervals; rates derive from `counts`."""

    auc: Interval | None = None
    tpr_at_fpr: dict[str, Rate] = {}
    advantage: Interval | float | None = None
    balanced_accuracy: Interval | float | None = None
    confidence: Probability | None = None
    roc: Roc | None = None
    counts: dict[str, Any] = {}
    measures: dict[str, Measure] = {}
