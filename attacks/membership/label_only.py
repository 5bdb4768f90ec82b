"""Attacks on a model that gives labels only (Choquette-Choo, Tramer, Carlini, Papernot 2021, arXiv 2007.14321)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, FloatArray, Needs, Scores
from ..parameters import require_integer, require_shadows
from .calibration import likelihood_ratio
from .queries import BoundaryDistance, Votes
from .queries.variants import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOnlyBoundary:
    """Members lie farther on the right side of the decision boundary (also Li, Zhang 2021, arXiv 2007.15528).

    `budget` and `rounds` are those of `BoundaryDistance`: label queries a record and model. Without `shadows` the score
    is the signed distance; with them, the likelihood ratio of the distance between shadows trained with and without the
    record.
    """

    name: ClassVar[str] = "label-only-boundary"

    budget: int = 200
    rounds: int = 3
    shadows: int = 0

    def __post_init__(self) -> None:
        _require_shadow_number(self.name, self.shadows)
        self._query()

    @property
    def needs(self) -> Needs:
        """Predicted labels at points near every record."""
        return Needs(access=Access.LABELS, shadows=self.shadows, queries=(self._query(),))

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """One score per record of `evidence`; draws nothing from `seeds`."""
        require_shadows(self.name, "shadows", evidence, self.shadows)
        answers = evidence.answers[BoundaryDistance.name]
        return Scores(_judged(self.name, answers.target, answers.shadows, self.shadows, evidence), evidence.records)

    def _query(self) -> BoundaryDistance:
        return BoundaryDistance(self.budget, self.rounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOnlyAugment:
    """Members stay rightly labelled under small changes of the record.

    `count`, `kind` and `strength` are those of `Votes`. Without `shadows` the score is the number of right answers, the
    record itself counting as much as all its variants together; with them, the likelihood ratio of that number between
    shadows trained with and without the record.
    """

    name: ClassVar[str] = "label-only-augment"

    count: int = 13
    kind: Kind = "auto"
    strength: float = 0.1
    shadows: int = 0

    def __post_init__(self) -> None:
        _require_shadow_number(self.name, self.shadows)
        self._query()

    @property
    def needs(self) -> Needs:
        """Predicted labels of `count` variants of every record."""
        return Needs(access=Access.LABELS, shadows=self.shadows, queries=(self._query(),))

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """One score per record of `evidence`; draws nothing from `seeds`."""
        require_shadows(self.name, "shadows", evidence, self.shadows)
        answers = evidence.answers[Votes.name]
        weights = np.ones(answers.target.shape[1])
        weights[0] = max(1, len(weights) - 1)
        target = answers.target.astype(np.float64) @ weights
        shadows = answers.shadows.astype(np.float64) @ weights
        return Scores(_judged(self.name, target, shadows, self.shadows, evidence), evidence.records)

    def _query(self) -> Votes:
        return Votes(self.count, self.kind, self.strength)


def _require_shadow_number(attack: str, shadows: int) -> None:
    # One shadow cannot be on both sides of a record.
    require_integer(attack, "shadows", shadows, least=2 if shadows else 0)


def _judged(
    attack: str, target: FloatArray, shadows: FloatArray, count: int, evidence: Evidence
) -> NDArray[np.float64]:
    """The signal itself without shadows, its likelihood ratio with them."""
    signal = np.asarray(target, dtype=np.float64)
    if not count:
        return signal
    return likelihood_ratio(
        attack, signal, np.asarray(shadows[:count], dtype=np.float64), np.asarray(evidence.shadow_inside[:count])
    )
