"""One rule applied to one trainer, with the bound behind its verdict."""

# Pydantic copies defaults; ruff knows that only where BaseModel itself is the base.
# ruff: noqa: RUF012

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .exhibits import MOST_EXAMPLES, Example, Series, Slice
from .metrics import Metrics
from .part import Epsilon, Part, Probability, Verdict


class TestedClaim(Part):
    """The claim at the delta that was tested."""

    epsilon: Epsilon
    delta: Probability


class Bound(Part):
    """A certified lower bound on epsilon; `ceiling` is the largest that this design could have shown."""

    epsilon: Epsilon
    delta: Probability
    confidence: Probability
    method: str
    null_class: str
    validity: Literal["frequentist", "anytime", "bayesian", "estimate"]
    selection: str
    counts: dict[str, float] = {}
    ceiling: Epsilon | None = None
    alpha: Probability | None = None


class Judged(Part):
    """The same bound at the confidence that verdicts need."""

    confidence: Probability
    epsilon: Epsilon | None = None
    ceiling: Epsilon | None = None
    alpha: Probability | None = None


class Finding(Part):
    """One rule applied to one trainer: a verdict with everything behind it.

    `threat` says what the attacker holds and knows; it is printed beside the numbers.
    """

    rule: Annotated[str, Field(min_length=1)]
    verdict: Verdict
    trainer: str | None = None
    attack: str | None = None
    metrics: Metrics | None = None
    claim: TestedClaim | None = None
    bound: Bound | None = None
    judged: Judged | None = None
    reason: str | None = None
    evidence: dict[str, Any] = {}
    threat: dict[str, str] = {}
    slices: list[Slice] = []
    series: list[Series] = []
    examples: Annotated[list[Example], Field(max_length=MOST_EXAMPLES)] = []

    @property
    def family(self) -> str:
        """The part of the rule before its dot."""
        return self.rule.split(".", maxsplit=1)[0]
