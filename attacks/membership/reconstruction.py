"""Membership in the training of an autoencoder: members are restored better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, FloatArray, Needs, Scores
from ..parameters import require_choice, require_integer, require_number, require_shadows
from .calibration import likelihood_ratio
from .queries.reconstruction import ReconstructionErrors

SMALLEST = 1e-12
"""Errors are raised to this before the logarithm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconstructionLoss:
    """Score = minus the logarithm of the reconstruction error; higher means more likely inside.

    The generative counterpart of the loss attack (Hilprecht, Haerterich, Bernau 2019, PoPETs, for autoencoders and
    GANs). `of`: the error on the record itself ("record"), or the mean over copies with noise `noise` ("surroundings").
    With `shadows`, the likelihood ratio of that number between models trained with and without the record (Carlini et
    al. 2022, arXiv 2112.03570): records are not equally hard to restore.
    """

    name: ClassVar[str] = "reconstruction-loss"
    version: ClassVar[str] = "1"

    of: Literal["record", "surroundings"] = "record"
    shadows: int = 0
    noise: float = 0.2
    draws: int = 4

    def __post_init__(self) -> None:
        require_choice(self.name, "of", self.of, ("record", "surroundings"))
        require_integer(self.name, "shadows", self.shadows, least=2 if self.shadows else 0)
        require_integer(self.name, "draws", self.draws, least=1)
        require_number(self.name, "noise", self.noise, low=0.0)

    @property
    def needs(self) -> Needs:
        """What the model makes of each record, and what `shadows` models make of it."""
        query = ReconstructionErrors(self.draws if self.of == "surroundings" else 0, self.noise)
        return Needs(access=Access.LOGITS, shadows=self.shadows, queries=(query,))

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """One score per record of `evidence`; draws nothing from `seeds`."""
        require_shadows(self.name, "shadows", evidence, self.shadows)
        answers = evidence.answers[ReconstructionErrors.name]
        target = self._signal(answers.target)
        if not self.shadows:
            return Scores(target, evidence.records)
        shadows = self._signal(answers.shadows[: self.shadows])
        inside = np.asarray(evidence.shadow_inside[: self.shadows])
        return Scores(likelihood_ratio(self.name, target, shadows, inside), evidence.records)

    def _signal(self, errors: FloatArray) -> NDArray[np.float64]:
        """(..., 2) to (...)."""
        chosen = np.asarray(errors, dtype=np.float64)[..., 0 if self.of == "record" else 1]
        return np.asarray(-np.log(np.maximum(chosen, SMALLEST)), dtype=np.float64)
