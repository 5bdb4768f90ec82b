"""Prediction entropy (Shokri et al. 2017, arXiv 1610.05820; as an attack Salem et al. 2019, arXiv 1806.01246)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, Needs, Scores
from .signals import checked_chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class Entropy:
    """Score = sum_i p_i log p_i, the negative entropy of the target's answer; higher means more likely inside.

    Ignores the label: a record that is surely wrong looks like a member. `modified-entropy` repairs that.
    """

    name: ClassVar[str] = "entropy"

    @property
    def needs(self) -> Needs:
        """The target's probabilities."""
        return Needs(access=Access.LOGITS)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """One score per record of `evidence`; draws nothing from `seeds`."""
        sums = [(np.exp(values) * values).sum(axis=1) for _, values in checked_chunks(evidence.target)]
        return Scores(np.concatenate(sums) if sums else np.zeros(0), evidence.records)
