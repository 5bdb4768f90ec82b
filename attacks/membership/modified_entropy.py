"""Modified prediction entropy (Song and Mittal 2021, arXiv 2003.10595, equation 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, Needs, Scores
from .signals import SMALLEST, checked_chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class ModifiedEntropy:
    """Score = (1 - p_y) log p_y + sum_{i != y} p_i log(1 - p_i), at most 0; higher means more likely inside.

    Like entropy it reads the whole answer, but it is best (0) only for the right label with probability 1 and worst
    for a wrong one. The paper sets a threshold for each class on a shadow model; a score has no threshold, so none is
    set here, and classes are compared as they are.
    """

    name: ClassVar[str] = "modified-entropy"

    @property
    def needs(self) -> Needs:
        """The target's probabilities."""
        return Needs(access=Access.LOGITS)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """One score per record of `evidence`; draws nothing from `seeds`."""
        parts = [_negative(values, evidence.labels[part]) for part, values in checked_chunks(evidence.target)]
        return Scores(np.concatenate(parts) if parts else np.zeros(0), evidence.records)


def _negative(values: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    rows = np.arange(len(labels))
    # log(1 - p) without loss: log1p(-p) while p is small, log(-expm1(log p)) above.
    small, large = np.minimum(values, -0.69), np.clip(values, -0.7, -1e-300)
    rest = np.where(values < -0.7, np.log1p(-np.exp(small)), np.log(-np.expm1(large)))
    rest = np.maximum(rest, SMALLEST)
    terms = np.exp(values) * rest
    own, missing = values[rows, labels], np.exp(rest[rows, labels])
    return np.asarray(terms.sum(axis=1) - terms[rows, labels] + missing * own)
