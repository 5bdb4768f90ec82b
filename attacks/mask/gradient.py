"""Membership from the bits and the record's own gradient: training pushed each bit against the gradients of members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, Needs, Scores
from ..membership.calibration import likelihood_ratio
from ..parameters import require_choice, require_integer, require_shadows
from .queries import MaskAgreement

COLUMNS = {"released": 0, "neutral": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskGradient:
    """A matched filter on bits: minus the correlation of the mask with the gradient of the record's loss in the mask.

    `at`: the gradient at the "released" mask, or at the "neutral" one of multipliers 1/2 (1 for rule `sign`), which
    does not depend on what was learned: the direction in which the record, alone, would have pushed the bits at first.
    In a network of ReLU without biases the gradient at the mask, summed against the mask, is a function of the logits
    alone (Euler's theorem on homogeneous functions), so "released" sees little that the loss does not. Without
    `shadows` it needs nothing but the mask; with them, the likelihood ratio of this number between shadows trained with
    and without the record, as in LiRA. Higher means more likely inside.
    """

    name: ClassVar[str] = "mask-gradient"

    at: Literal["neutral", "released"] = "neutral"
    shadows: int = 0

    def __post_init__(self) -> None:
        require_choice(self.name, "at", self.at, tuple(COLUMNS))
        require_integer(self.name, "shadows", self.shadows, least=2 if self.shadows else 0)

    @property
    def needs(self) -> Needs:
        """The mask on its frozen network, and those of `shadows` models."""
        return Needs(access=Access.WEIGHTS, shadows=self.shadows, queries=(MaskAgreement(),))

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """One score per record of `evidence`; draws nothing from `seeds`."""
        require_shadows(self.name, "shadows", evidence, self.shadows)
        answers, column = evidence.answers[MaskAgreement.name], COLUMNS[self.at]
        target = np.asarray(answers.target, np.float64)[:, column]
        if not self.shadows:
            return Scores(target, evidence.records)
        shadows = np.stack([np.asarray(answers.shadows[k], np.float64)[:, column] for k in range(self.shadows)])
        inside = np.asarray(evidence.shadow_inside[: self.shadows])
        return Scores(likelihood_ratio(self.name, target, shadows, inside), evidence.records)
