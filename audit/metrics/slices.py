"""Leakage by group of records, and the worst group with a correction for having looked at all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ConfigError
from ..types import BoolArray
from .auc import auc_interval
from .intervals import Interval, check_confidence
from .roc import SplitScores


@dataclass(frozen=True, slots=True)
class Slice:
    """One group: its size and its AUC, with limits that hold for all groups at once."""

    group: str
    members: int
    nonmembers: int
    auc: Interval

    def to_json(self) -> dict[str, Any]:
        """`{group, members, nonmembers, auc}`."""
        return {
            "group": self.group,
            "members": self.members,
            "nonmembers": self.nonmembers,
            "auc": self.auc.to_json(),
        }


@dataclass(frozen=True, slots=True)
class SliceReport:
    """All groups large enough, the `worst` (largest lower limit) first; `skipped` are those too small to measure."""

    confidence: float
    slices: tuple[Slice, ...]
    skipped: tuple[str, ...]

    @property
    def worst(self) -> Slice | None:
        """The group whose leakage is best established; None when every group is too small."""
        return self.slices[0] if self.slices else None

    def to_json(self) -> dict[str, Any]:
        """`{confidence, corrected_for, worst, slices, skipped}`."""
        return {
            "confidence": self.confidence,
            "corrected_for": len(self.slices),
            "worst": self.worst.to_json() if self.worst else None,
            "slices": [s.to_json() for s in self.slices],
            "skipped": list(self.skipped),
        }


def worst_slice(
    scores: ArrayLike,
    inside: ArrayLike,
    groups: Sequence[str],
    *,
    confidence: float = 0.95,
    minimum: int = 20,
) -> SliceReport:
    """AUC of every group in `groups` (records,) with at least `minimum` members and as many non-members.

    Each of the G groups gets confidence 1 - (1 - confidence) / G (Bonferroni), so that all limits hold together and
    the worst may be picked after looking. Which groups count depends on their sizes, never on scores.
    """
    check_confidence(confidence)
    values, truth, names = np.asarray(scores, dtype=np.float64), np.asarray(inside, dtype=np.bool_), np.asarray(groups)
    if names.shape != values.shape or truth.shape != values.shape:
        raise ConfigError(
            f"scores, inside and groups must be of one length, got {values.shape}, {truth.shape}, {names.shape}"
        )
    splits, skipped = {}, []
    for name in np.unique(names).tolist():
        here = names == name
        members = int(truth[here].sum())
        if min(members, int(here.sum()) - members) < minimum:
            skipped.append(str(name))
        else:
            splits[str(name)] = SplitScores.of(values[here], truth[here])
    shared = 1 - (1 - confidence) / max(len(splits), 1)
    slices = [Slice(n, len(s.members), len(s.nonmembers), auc_interval(s, shared)) for n, s in splits.items()]
    slices.sort(key=lambda s: -s.auc.low)
    return SliceReport(confidence, tuple(slices), tuple(skipped))


def worst_slices(
    scores: ArrayLike,
    inside: ArrayLike,
    slices: Mapping[str, BoolArray],
    confidence: float = 0.95,
    *,
    minimum: int = 20,
    most: int = 10,
) -> list[dict[str, Any]]:
    """The `most` slices whose leakage is best established, as a finding's `slices`: AUC between limits, worst first.

    `slices` maps names to masks (records,); they may overlap. All limits of all slices measured hold together at
    `confidence` (Bonferroni, whatever the overlap). Slices with fewer than `minimum` members or non-members are
    left out by their size alone.
    """
    check_confidence(confidence)
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(inside, dtype=np.bool_)
    splits: dict[str, SplitScores] = {}
    for name, mask in slices.items():
        if mask.shape != values.shape or truth.shape != values.shape:
            raise ConfigError(f"slice {name!r}: mask {mask.shape}, scores {values.shape}, inside {truth.shape}")
        members = int((truth & mask).sum())
        if min(members, int(mask.sum()) - members) >= minimum:
            splits[name] = SplitScores.of(values[mask], truth[mask])
    shared = 1 - (1 - confidence) / max(len(splits), 1)
    rows: list[dict[str, Any]] = [
        {"slice": name, **auc_interval(split, shared).to_json(), "n": len(split.members) + len(split.nonmembers)}
        for name, split in splits.items()
    ]
    rows.sort(key=lambda row: -row["low"])
    return [{**row, "measure": "auc"} for row in rows[:most]]
