"""White-box signals: members have small loss gradients (Nasr, Shokri, Houmansadr 2019, arXiv 1812.00910)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, FloatArray, Needs, Scores
from ..parameters import require_choice, require_integer, require_shadows
from .calibration import likelihood_ratio
from .queries import GradientNorms

SMALLEST = 1e-30
"""Norms are raised to this before the logarithm: a gradient may round to 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientNorm:
    """Score = minus the logarithm of a gradient's norm; higher means more likely inside.

    `signal`: `weights` (all weights together), `input` (with respect to the record), `last` (the last weight tensor).
    With `shadows`, the likelihood ratio of that number between shadows trained with and without the record.
    """

    name: ClassVar[str] = "gradient-norm"

    signal: Literal["weights", "input", "last"] = "weights"
    shadows: int = 0

    def __post_init__(self) -> None:
        require_choice(self.name, "signal", self.signal, ("weights", "input", "last"))
        require_integer(self.name, "shadows", self.shadows, least=2 if self.shadows else 0)

    @property
    def needs(self) -> Needs:
        """Weights of the target, and of `shadows` models."""
        return Needs(access=Access.WEIGHTS, shadows=self.shadows, queries=(GradientNorms(),))

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """One score per record of `evidence`; draws nothing from `seeds`."""
        require_shadows(self.name, "shadows", evidence, self.shadows)
        answers = evidence.answers[GradientNorms.name]
        target = self._signal(answers.target)
        if not self.shadows:
            return Scores(target, evidence.records)
        shadows = self._signal(answers.shadows[: self.shadows])
        inside = np.asarray(evidence.shadow_inside[: self.shadows])
        return Scores(likelihood_ratio(self.name, target, shadows, inside), evidence.records)

    def _signal(self, norms: FloatArray) -> NDArray[np.float64]:
        """(..., columns of `GradientNorms`) to (...)."""
        wide = np.asarray(norms, dtype=np.float64)
        if self.signal == "weights":
            size = np.sqrt(np.square(wide[..., 1:]).sum(axis=-1))
        else:
            size = wide[..., 0] if self.signal == "input" else wide[..., -1]
        return np.asarray(-np.log(np.maximum(size, SMALLEST)), dtype=np.float64)
