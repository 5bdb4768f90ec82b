"""The project's own attack: the margin of a record's label, centred within its class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access, Evidence, Needs, Scores


@dataclass(frozen=True)
class Direct:
    name: ClassVar[str] = "direct"

    @property
    def needs(self) -> Needs:
        return Needs(access=Access.LOGITS)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:
        answers = evidence.target.astype(np.float64)
        own = answers[np.arange(len(answers)), evidence.labels]
        margin = own - np.log(np.maximum(np.exp(answers).sum(axis=1) - np.exp(own), 1e-300))
        for label in np.unique(evidence.labels):
            margin[evidence.labels == label] -= np.median(margin[evidence.labels == label])
        return Scores(margin, evidence.records)
