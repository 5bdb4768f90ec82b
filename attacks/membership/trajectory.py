"""TrajectoryMIA (Liu, Zhao, Backes, Zhang 2022, arXiv 2208.14933): losses along a distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, FloatArray, Needs, Scores
from ..parameters import require_integer, require_shadows
from .learned import LEAST_SHADOWS, learned_scores
from .queries import Trajectory
from .signals import logit


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTrajectory:
    """A record is inside if the target fits it better than its students find it hard.

    The signals are the losses of the record along the distillation (`Trajectory`; `epochs`, `folds`, `hidden` are its
    own) and the target's logit, which ends the trajectory; the classifier is taught by `shadows`. Without
    shadows the score is the target's log-probability minus the student's at the last epoch.
    """

    name: ClassVar[str] = "loss-trajectory"

    shadows: int = 8
    epochs: int = 20
    folds: int = 4
    hidden: int = 128

    def __post_init__(self) -> None:
        require_integer(self.name, "shadows", self.shadows, least=0)
        if 0 < self.shadows < LEAST_SHADOWS:
            raise ConfigError(
                f"attack {self.name!r}: shadows must be 0 or at least {LEAST_SHADOWS}, got {self.shadows}"
            )
        self._query()

    @property
    def needs(self) -> Needs:
        """Logits of the target and `shadows` models, and the features, from which students are distilled."""
        return Needs(access=Access.LOGITS, shadows=self.shadows, queries=(self._query(),))

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """One score per record of `evidence`; draws nothing from `seeds`."""
        require_shadows(self.name, "shadows", evidence, self.shadows)
        answers = evidence.answers[Trajectory.name]
        own = logit(evidence.target, evidence.labels)
        target = _signals(answers.target, own)
        if not self.shadows:
            return Scores(own - target[:, -2], evidence.records)
        theirs = [
            _signals(answers.shadows[k], logit(evidence.shadows[k], evidence.labels)) for k in range(self.shadows)
        ]
        inside = np.asarray(evidence.shadow_inside[: self.shadows])
        return Scores(learned_scores(self.name, target, np.stack(theirs), inside), evidence.records)

    def _query(self) -> Trajectory:
        return Trajectory(self.epochs, self.folds, self.hidden)


def _signals(losses: FloatArray, own: NDArray[np.float64]) -> NDArray[np.float64]:
    """(records, epochs + 1): the students' logits of the record's label from their losses, then the model's own."""
    wide = np.maximum(np.asarray(losses, dtype=np.float64), 1e-12)
    return np.column_stack([-wide - np.log(-np.expm1(-wide)), own])
