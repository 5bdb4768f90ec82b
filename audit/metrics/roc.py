"""Points of the ROC curve whose threshold non-members alone decide, from sorted scores."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError
from .intervals import as_json, binomial_interval, check_confidence, clopper_pearson


@dataclass(frozen=True, slots=True)
class SplitScores:
    """Scores of members and of non-members, each in ascending order; neither is empty."""

    members: NDArray[np.float64]
    nonmembers: NDArray[np.float64]

    @classmethod
    def of(cls, scores: ArrayLike, inside: ArrayLike) -> SplitScores:
        """Split `scores` (records,), higher for more likely inside, by the truth `inside` (records,), bool or 0 and 1.

        `ConfigError` on NaN scores, unequal lengths, a truth that is not binary, or one class only.
        """
        values, truth = np.asarray(scores, dtype=np.float64), _binary(np.asarray(inside))
        if values.ndim != 1 or values.shape != truth.shape:
            raise ConfigError(f"scores and inside must be of one length, got {values.shape} and {truth.shape}")
        if np.isnan(values).any():
            raise ConfigError(f"scores: {int(np.isnan(values).sum())} of {len(values)} are NaN: drop or repair them")
        members, nonmembers = values[truth], values[~truth]
        if not len(members) or not len(nonmembers):
            raise ConfigError(f"inside: {len(members)} members and {len(nonmembers)} non-members; both are needed")
        members.sort()
        nonmembers.sort()
        return cls(members, nonmembers)


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The most permissive rule "score > `above`" with at most floor(target x non-members) false positives.

    `above` is a non-member's score, so the rule is fixed by non-members and the interval for its true-positive rate,
    over members, is an exact binomial one. Where `above` falls inside a group of equal scores, part of the
    allowance is unused, and `value` would be a false zero for scores that are mostly tied: it is then the rate of the
    randomised rule (Neyman and Pearson 1933) that also flags a record of the group with probability `tie_fraction`,
    which uses the allowance up; `attainable` is the rate without coins. Its interval combines those of the rules
    with and without the group, each at half the error. `value` is None where the target is not measurable, with the
    `reason`.
    """

    target: float
    value: float | None
    low: float | None
    high: float | None
    fpr: float
    attainable: float
    attainable_fpr: float
    true_positives: int
    false_positives: int
    above: float
    tie_fraction: float = 0.0
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """`{value, low, high, fpr, above}`, `attainable` where ties needed coins, `reason` where not measurable."""
        out: dict[str, Any] = {"value": self.value, "low": self.low, "high": self.high}
        if self.reason is not None:
            return out | {"reason": self.reason}
        out |= {"fpr": self.fpr, "above": as_json(self.above)}
        if self.tie_fraction:
            attainable = {"value": self.attainable, "fpr": self.attainable_fpr}
            out |= {"attainable": attainable, "tie_fraction": self.tie_fraction}
        return out


def operating_point(split: SplitScores, fpr: float, confidence: float = 0.95) -> OperatingPoint:
    """True-positive rate at a false-positive rate of at most `fpr`, in (0, 1]."""
    check_confidence(confidence)
    if not 0 < fpr <= 1:
        raise ConfigError(f"a false-positive rate must lie in (0, 1], got {fpr}")
    negatives, positives = len(split.nonmembers), len(split.members)
    allowed = math.floor(fpr * negatives * (1 + 1e-12))
    above = float(split.nonmembers[negatives - 1 - allowed]) if allowed < negatives else -math.inf
    hits, tied_hits = _greater_and_equal(split.members, above)
    alarms, tied_alarms = _greater_and_equal(split.nonmembers, above)
    fraction = (allowed - alarms) / tied_alarms if tied_alarms else 0.0
    attainable = (hits / positives, alarms / negatives)
    if allowed < 1:
        reason = f"not measurable with {negatives} non-members"
        return OperatingPoint(fpr, None, None, None, attainable[1], *attainable, hits, alarms, above, 0.0, reason)
    if not fraction or not tied_hits:
        sure = binomial_interval(hits, positives, confidence)
        return OperatingPoint(fpr, sure.value, sure.low, sure.high, attainable[1], *attainable, hits, alarms, above)
    halved = 1 - (1 - confidence) / 2
    without, with_group = (binomial_interval(k, positives, halved) for k in (hits, hits + tied_hits))
    value, low, high = (
        (1 - fraction) * a + fraction * b
        for a, b in zip(
            (without.value, without.low, without.high), (with_group.value, with_group.low, with_group.high), strict=True
        )
    )
    return OperatingPoint(fpr, value, low, high, allowed / negatives, *attainable, hits, alarms, above, fraction)


@dataclass(frozen=True, slots=True)
class RocBand:
    """A thinned ROC curve with pointwise Clopper-Pearson limits for the true-positive rate, for plotting.

    Thresholds are non-members' scores, log-spaced in the false-positive rate from one false positive on.
    """

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    true_positives: tuple[int, ...]
    false_positives: tuple[int, ...]

    def to_json(self) -> dict[str, list[float]]:
        """Lists of equal length, at most 64 points, false-positive rate ascending."""
        return {key: list(value) for key, value in asdict(self).items()}


def roc_band(split: SplitScores, confidence: float = 0.95, points: int = 64) -> RocBand:
    """At most `points` attainable points, first none and last all flagged."""
    negatives, positives = len(split.nonmembers), len(split.members)
    allowed = np.unique(np.rint(np.geomspace(1, negatives, points - 1)).astype(np.int64))
    allowed = np.concatenate([[0], allowed])
    above = np.where(allowed < negatives, split.nonmembers[np.maximum(negatives - 1 - allowed, 0)], -math.inf)
    alarms = negatives - np.searchsorted(split.nonmembers, above, side="right")
    hits = positives - np.searchsorted(split.members, above, side="right")
    # A score of -inf is above no threshold: the last point flags everything whatever its score.
    alarms[-1], hits[-1] = negatives, positives
    _, first = np.unique(np.stack([alarms, hits]), axis=1, return_index=True)
    alarms, hits = alarms[first], hits[first]
    low, high = clopper_pearson(hits, positives, confidence)
    return RocBand(
        tuple((alarms / negatives).tolist()),
        tuple((hits / positives).tolist()),
        tuple(low.tolist()),
        tuple(high.tolist()),
        tuple(hits.tolist()),
        tuple(alarms.tolist()),
    )


def _greater_and_equal(ascending: NDArray[np.float64], score: float) -> tuple[int, int]:
    """How many of `ascending` are greater than `score`, and how many equal it."""
    left, right = np.searchsorted(ascending, score, side="left"), np.searchsorted(ascending, score, side="right")
    return len(ascending) - int(right), int(right - left)


def _binary(truth: NDArray[Any]) -> NDArray[np.bool_]:
    if truth.dtype == np.bool_:
        return truth
    if truth.dtype.kind not in "iuf" or not np.isin(truth, (0, 1)).all():
        raise ConfigError(f"inside must hold booleans or 0 and 1, got {truth.dtype} with other values")
    return truth.astype(np.bool_)
