"""How far the true class's probability is ahead of the best other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access, Evidence, Needs, Scores


@dataclass(frozen=True)
class Margin:
    name: ClassVar[str] = "margin"

    @property
    def needs(self) -> Needs:
        return Needs(access=Access.LOGITS)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:
        answers = evidence.target.astype(np.float64)
        own = answers[np.arange(len(answers)), evidence.labels]
        others = answers.copy()
        others[np.arange(len(answers)), evidence.labels] = -np.inf
        return Scores(own - others.max(axis=1), evidence.records)
