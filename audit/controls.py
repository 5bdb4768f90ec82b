"""The controls of every audit: leakage must be found where it is, and nowhere else (DESIGN 3)."""

from __future__ import annotations

from dataclasses import replace

from .blind import BlindResult, blind_baseline
from .prepare import Material
from .seeds import Seeds
from .trial import JudgedBy, certify
from .types import BoolArray, Bound, Mechanism, Scores

CONTROL_ALPHA = 0.001
"""Controls have an error probability of their own, outside the ledger, so that sound audits do not fail them one time
in twenty (DESIGN 3)."""


def negative_control(scores: Scores, fresh: BoolArray, how: JudgedBy, mechanism: Mechanism) -> Bound:
    """The bound that the same scores certify against coins flipped afresh, which no model has seen: it must be 0."""
    alone = replace(how, alpha_share=1.0, violation_confidence=1 - CONTROL_ALPHA)
    return certify(scores, fresh, alone, mechanism).judged


def blind_control(material: Material, inside: BoolArray, *, seeds: Seeds) -> BlindResult:
    """Whether records alone, without any model, tell members from non-members: then the split is broken."""
    return blind_baseline(material.universe, inside, seeds=seeds, alpha=CONTROL_ALPHA)
