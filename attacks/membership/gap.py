"""The gap attack (Yeom et al. 2018, arXiv 1709.01604, adversary 1 with 0-1 loss): inside where the label is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, Needs, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """1 where the target predicts the record's label, 0 elsewhere. The floor of the label-only attacks.

    Its advantage is the gap between training and test accuracy; an attack that does not beat it has learned nothing
    about records beyond being right or wrong (Choquette-Choo et al. 2021, arXiv 2007.14321).
    """

    name: ClassVar[str] = "gap"

    @property
    def needs(self) -> Needs:
        """The target's predicted labels."""
        return Needs(access=Access.LABELS)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """One score per record of `evidence`; draws nothing from `seeds`."""
        right = evidence.target.argmax(axis=1) == evidence.labels
        return Scores(right.astype(np.float64), evidence.records)
