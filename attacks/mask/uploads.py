"""What uploads say of the score's moves: from score changes, sampled bits or flips to one number a mask element."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ...audit.releases import UploadFacts

Floats = NDArray[np.float64]


def moves(uploads: Floats, start: Floats, facts: UploadFacts) -> Floats:
    """Which way, and how far as seen, each score (d,) went from `start` (d,): the mean over `uploads` (uploads, d).

    `scores`: the change itself. `bits`: a drawn bit less its chance at the start; thresholded bits are read as flips.
    `flips`: see `moves_of_flips`.
    """
    if facts.kind == "scores":
        return np.asarray(uploads.mean(axis=0), np.float64)
    if facts.sampled:
        return np.asarray(uploads.mean(axis=0) - chances(start, facts), np.float64)
    changed = uploads - (start > 0) if facts.kind == "bits" else uploads
    reach = facts.learning_rate * facts.steps if facts.optimizer == "adam" else np.inf
    return np.asarray(np.mean([moves_of_flips(one, start, reach) for one in changed], axis=0), np.float64)


def chances(scores: Floats, facts: UploadFacts) -> Floats:
    """Every bit's chance to be sent as 1 from `scores` (..., d)."""
    theta = expit(scores) if facts.smooth else (scores > 0).astype(np.float64)
    if facts.clamp is not None:
        theta = np.clip(theta, 0.5 - facts.clamp, 0.5 + facts.clamp)
    return np.asarray(theta, np.float64)


def moves_of_flips(flips: Floats, start: Floats, reach: float) -> Floats:
    """The sign of each move (d,) where bits flipped; a bit that might have flipped, its score within `reach` of 0, and
    did not, speaks for the other way, the less so the more of them there are."""
    silent = (flips == 0) & (np.abs(start) <= reach)
    weight = np.count_nonzero(flips) / max(1, int(silent.sum()))
    away = np.where(start > 0, 1.0, -1.0) * min(1.0, weight)
    return np.asarray(np.where(silent, away, flips), np.float64)
