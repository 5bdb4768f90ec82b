"""Difficulty calibration (Watson, Guo, Cormode, Sablayrolles 2022, arXiv 2111.08440)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ...audit.errors import IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, Needs, Scores
from ..parameters import require_choice, require_integer, require_shadows
from .signals import logit, true_class


@dataclass(frozen=True, slots=True, kw_only=True)
class DifficultyCalibration:
    """Score = the record's signal under the target less its mean over shadows trained without it (equation 2).

    An easy record is well fitted by every model; only what the target fits better than models that never saw the record
    speaks for membership. Offline LiRA is the same with a standard deviation, so it serves as its cheap relative.
    `signal`: `loss`, log p_y as in the paper, or `logit`. `shadows` are read in order.
    """

    name: ClassVar[str] = "difficulty"
    replayable: ClassVar[bool] = True

    shadows: int = 16
    signal: Literal["loss", "logit"] = "loss"

    def __post_init__(self) -> None:
        require_integer(self.name, "shadows", self.shadows, least=1)
        require_choice(self.name, "signal", self.signal, ("loss", "logit"))

    @property
    def needs(self) -> Needs:
        """The loss, or the logits, of the target and of `shadows` models."""
        return Needs(access=Access.LOSS if self.signal == "loss" else Access.LOGITS, shadows=self.shadows)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """Higher means more likely inside; draws nothing from `seeds`. Records inside every shadow get the others' mean
        difficulty; `IncompatibleError` when that is all of them, or with too few shadows."""
        require_shadows(self.name, "shadows", evidence, self.shadows)
        read = true_class if self.signal == "loss" else logit
        total, count = np.zeros(len(evidence.records)), np.zeros(len(evidence.records), dtype=np.int64)
        for j in range(self.shadows):
            outside = ~np.asarray(evidence.shadow_inside[j], dtype=np.bool_)
            total += np.where(outside, read(evidence.shadows[j], evidence.labels), 0.0)
            count += outside
        if not count.any():
            raise IncompatibleError(
                "attack 'difficulty': every record is in every shadow: train shadows without some records"
            )
        usual = np.where(count > 0, total / np.maximum(count, 1), (total[count > 0] / count[count > 0]).mean())
        return Scores(read(evidence.target, evidence.labels) - usual, evidence.records)
