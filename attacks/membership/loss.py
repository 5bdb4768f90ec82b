"""Loss threshold (Yeom et al. 2018, arXiv 1709.01604): members are fitted better. Needs the target only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, Needs, Scores
from .signals import true_class


@dataclass(frozen=True, slots=True, kw_only=True)
class LossThreshold:
    """Score = log p_y, the negative cross-entropy of the record under the target; higher means more likely inside.

    Cheap and weak: it cannot tell an easy record from a memorised one. Use it as the floor of a comparison.
    """

    name: ClassVar[str] = "loss"

    @property
    def needs(self) -> Needs:
        """The loss of the target; no shadow, no population."""
        return Needs(access=Access.LOSS)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """One score per record of `evidence`; draws nothing from `seeds`."""
        return Scores(true_class(evidence.target, evidence.labels), evidence.records)
