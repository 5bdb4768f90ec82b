"""Who could be a member and what was fixed beforehand; and how useful the models are."""

# Pydantic copies defaults; ruff knows that only where BaseModel itself is the base.
# ruff: noqa: RUF012

from __future__ import annotations

from typing import Literal

from .metrics import Interval
from .part import Count, Part, Probability


class LedgerEntry(Part):
    """The share of the error probability that one attack on one trainer was given, fixed beforehand."""

    trainer: str | None = None
    attack: str
    alpha_share: Probability | None = None
    guesses: Count | None = None
    bound: str | None = None
    delta: Probability | None = None


class Design(Part):
    """Who could be a member, how membership was drawn, and at which confidence things are said."""

    sampling: Literal["coin", "runs", "unknown"]
    audit_records: Count | None = None
    canaries: dict[str, Count] = {}
    population_records: Count | None = None
    expected_members: float | None = None
    shadows: Count | None = None
    confidence: Probability
    violation_confidence: Probability | None = None
    delta: Probability | None = None
    ledger: list[LedgerEntry] = []


class Utility(Part):
    """How good the audited model is at its task."""

    trainer: str
    train_accuracy: Interval | None = None
    test_accuracy: Interval | None = None
    train_loss: float | None = None
    test_loss: float | None = None
    majority_share: Probability | None = None
    learned: bool | None = None
