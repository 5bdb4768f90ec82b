"""Largest confidence (Salem et al. 2019, arXiv 1806.01246, adversary 3): models are surer about records they saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, Needs, Scores
from .signals import checked_chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """Score = log of the largest class probability; higher means more likely inside. Knows no label, needs no shadow.

    The confidence of the *given* label (Song and Mittal 2021, arXiv 2003.10595) orders records as `loss` does. Their
    thresholds differ by class; a score has no threshold, and the class-wise comparison is the attack `population`.
    """

    name: ClassVar[str] = "confidence"

    @property
    def needs(self) -> Needs:
        """The target's probabilities."""
        return Needs(access=Access.LOGITS)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """One score per record of `evidence`; draws nothing from `seeds`."""
        largest = [values.max(axis=1) for _, values in checked_chunks(evidence.target)]
        return Scores(np.concatenate(largest) if largest else np.zeros(0), evidence.records)
