"""Layer-wise gradient sizes, weighed by a classifier taught by shadows (after Nasr et al. 2019, arXiv 1812.00910)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, FloatArray, Needs, Scores
from ..parameters import require_integer, require_shadows
from .gradient_norm import SMALLEST
from .learned import LEAST_SHADOWS, learned_scores
from .queries import GradientNorms
from .signals import logit


@dataclass(frozen=True, slots=True, kw_only=True)
class WhiteBox:
    """The logit, and the norms of the loss gradient with respect to the record and to every weight tensor.

    A logistic regression in place of Nasr et al.'s network, and shadow models in place of known members, so that the
    target's truth stays unread. Higher means more likely inside.
    """

    name: ClassVar[str] = "white-box"

    shadows: int = 16

    def __post_init__(self) -> None:
        require_integer(self.name, "shadows", self.shadows, least=LEAST_SHADOWS)

    @property
    def needs(self) -> Needs:
        """Weights of the target and of `shadows` models."""
        return Needs(access=Access.WEIGHTS, shadows=self.shadows, queries=(GradientNorms(),))

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """One score per record of `evidence`; draws nothing from `seeds`."""
        require_shadows(self.name, "shadows", evidence, self.shadows)
        answers = evidence.answers[GradientNorms.name]
        target = _signals(answers.target, logit(evidence.target, evidence.labels))
        theirs = [
            _signals(answers.shadows[k], logit(evidence.shadows[k], evidence.labels)) for k in range(self.shadows)
        ]
        inside = np.asarray(evidence.shadow_inside[: self.shadows])
        return Scores(learned_scores(self.name, target, np.stack(theirs), inside), evidence.records)


def _signals(norms: FloatArray, own: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([-np.log(np.maximum(np.asarray(norms, dtype=np.float64), SMALLEST)), own])
