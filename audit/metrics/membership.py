"""The metrics of one attack on one model, as DESIGN 8 writes them down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .auc import auc_interval
from .intervals import Interval
from .roc import OperatingPoint, RocBand, SplitScores, operating_point, roc_band

FALSE_POSITIVE_RATES = (0.1, 0.01, 0.001, 0.0001)


@dataclass(frozen=True, slots=True)
class MembershipMetrics:
    """How well scores tell `members` from `nonmembers`.

    `advantage` is the largest TPR - FPR over all thresholds, and `balanced_accuracy` the accuracy at that threshold
    with both classes weighing the same: estimates, optimistic by their choice of threshold on the same scores, without
    interval. `best` are the counts (true positives, false positives) there. All other figures carry limits at
    `confidence`, each on its own (no correction over them). No bound on epsilon may be drawn from these.
    """

    confidence: float
    members: int
    nonmembers: int
    auc: Interval
    tpr_at_fpr: Mapping[str, OperatingPoint]
    advantage: float
    balanced_accuracy: float
    best: tuple[int, int]
    roc: RocBand

    def to_json(self) -> dict[str, Any]:
        """`auc`, `tpr_at_fpr`, `advantage`, `balanced_accuracy`, `counts`, `roc`, `confidence`; null where absent."""
        thresholds = {
            key: {"true_positives": point.true_positives, "false_positives": point.false_positives}
            for key, point in self.tpr_at_fpr.items()
        }
        best = {"true_positives": self.best[0], "false_positives": self.best[1]}
        return {
            "confidence": self.confidence,
            "auc": self.auc.to_json(),
            "tpr_at_fpr": {key: point.to_json() for key, point in self.tpr_at_fpr.items()},
            "advantage": self.advantage,
            "balanced_accuracy": self.balanced_accuracy,
            "counts": {
                "members": self.members,
                "nonmembers": self.nonmembers,
                "thresholds": thresholds,
                "best": best,
            },
            "roc": self.roc.to_json(),
        }


def membership_metrics(
    scores: ArrayLike,
    inside: ArrayLike,
    *,
    confidence: float = 0.95,
    rates: Sequence[float] = FALSE_POSITIVE_RATES,
) -> MembershipMetrics:
    """All metrics of `scores` (records,), higher for more likely inside, against the truth `inside` (records,).

    A million scores take well under a second. `ConfigError` on NaN scores, one class only, or a confidence or rate
    out of range.
    """
    split = SplitScores.of(scores, inside)
    hits, alarms = _best_threshold(split)
    advantage = hits / len(split.members) - alarms / len(split.nonmembers)
    return MembershipMetrics(
        confidence=confidence,
        members=len(split.members),
        nonmembers=len(split.nonmembers),
        auc=auc_interval(split, confidence),
        tpr_at_fpr={rate_key(rate): operating_point(split, rate, confidence) for rate in rates},
        advantage=advantage,
        balanced_accuracy=(1 + advantage) / 2,
        best=(hits, alarms),
        roc=roc_band(split, confidence),
    )


def rate_key(rate: float) -> str:
    """`0.0001` and not `1e-04`: how a false-positive rate is written as a key."""
    return np.format_float_positional(rate, trim="-")


def _best_threshold(split: SplitScores) -> tuple[int, int]:
    """True and false positives at the threshold with the largest TPR - FPR; a member's score always attains it."""
    positives, negatives = len(split.members), len(split.nonmembers)
    hits = positives - np.searchsorted(split.members, split.members, side="left")
    alarms = negatives - np.searchsorted(split.nonmembers, split.members, side="left")
    gain = hits / positives - alarms / negatives
    best = int(np.argmax(gain))
    return (int(hits[best]), int(alarms[best])) if gain[best] > 0 else (0, 0)
