"""Area under the ROC curve: the probability that a member scores above a non-member, ties counting one half."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtri

from .intervals import Interval, check_confidence
from .roc import SplitScores


def auc(scores: ArrayLike, inside: ArrayLike) -> float:
    """AUC of `scores` (records,), higher for more likely inside, against the truth `inside` (records,)."""
    split = SplitScores.of(scores, inside)
    return float(_placements(split.members, split.nonmembers).mean())


def auc_interval(split: SplitScores, confidence: float = 0.95) -> Interval:
    """AUC with the interval of DeLong, DeLong and Clarke-Pearson (1988), on the logit scale, in O(n log n).

    The variance is that of the placements, found by sorting (Sun and Xu 2014 use midranks). On the logit scale the
    limits stay inside (0, 1) and cover better near 1 (Qin and Hotilovac 2008). Where the variance is 0 (perfect
    separation, or all tied) DeLong would claim certainty: see `_degenerate`. Asymptotic otherwise.
    """
    check_confidence(confidence)
    members, nonmembers = len(split.members), len(split.nonmembers)
    of_members = _placements(split.members, split.nonmembers)
    value = float(of_members.mean())
    of_nonmembers = 1 - _placements(split.nonmembers, split.members)
    if members < 2 or nonmembers < 2:
        return Interval(value, 0.0, 1.0)
    variance = float(of_members.var(ddof=1)) / members + float(of_nonmembers.var(ddof=1)) / nonmembers
    if variance <= 1e-24 or not 0 < value < 1:
        return _degenerate(value, min(members, nonmembers), confidence)
    reach = float(ndtri(0.5 + confidence / 2)) * np.sqrt(variance) / (value * (1 - value))
    return Interval(value, float(expit(logit(value) - reach)), float(expit(logit(value) + reach)))


def _degenerate(value: float, pairs: int, confidence: float) -> Interval:
    """Limits when every member compares alike with every non-member.

    `pairs` disjoint member and non-member pairs are independent, and all came out as `value` (0, 1/2 or 1). An
    outcome of probability 1 - u or less does so with probability at most (1 - u)^pairs, so at most u = 1 - tail^(1 /
    pairs) of the mass can lie elsewhere.
    """
    unseen = 1 - ((1 - confidence) / 2) ** (1 / pairs)
    return Interval(value, value * (1 - unseen), value + (1 - value) * unseen)


def _placements(of: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of `among` below each of `of`, ties one half; both ascending."""
    below = np.searchsorted(among, of, side="left")
    not_above = np.searchsorted(among, of, side="right")
    return (below + not_above) / (2 * len(among))
