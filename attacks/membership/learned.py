"""A classifier of membership, taught by shadow models whose membership is known, asked about the target."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.types import BoolArray

LEAST_SHADOWS = 4
"""With fewer, a shadow has no others left to say what a record looks like to models without it."""


def learned_scores(
    attack: str,
    target: NDArray[np.float64],
    shadows: NDArray[np.float64],
    inside: BoolArray,
) -> NDArray[np.float64]:
    """Log-odds of membership (records,) by logistic regression on `target` (records, signals).

    Taught on `shadows` (shadows, records, signals) and `inside` (shadows, records). Every signal enters as it is, and
    relative to its mean over the shadows without the record: for a shadow, over the *other* shadows without it, so that
    the classifier meets in training what it will meet at the target. Signals are scaled to variance 1 over the shadows.
    """
    if len(shadows) < LEAST_SHADOWS:
        raise IncompatibleError(f"attack {attack!r} learns from at least {LEAST_SHADOWS} shadows, got {len(shadows)}")
    absent = ~inside[..., None]
    total, count = np.where(absent, shadows, 0.0).sum(axis=0), absent.sum(axis=0)
    everyone = shadows.mean(axis=0)
    own = np.where(absent, shadows, 0.0)
    others = _mean(total - own, count - absent, everyone)
    taught = np.concatenate([shadows, shadows - others], axis=2).reshape(inside.size, -1)
    asked = np.concatenate([target, target - _mean(total, count, everyone)], axis=1)
    odds = _fitted(taught, inside.reshape(-1)).decision_function(asked)
    return np.asarray(odds, dtype=np.float64)


def _mean(total: NDArray[np.float64], count: NDArray[Any], otherwise: NDArray[np.float64]) -> NDArray[np.float64]:
    """`total` / `count`, and `otherwise` where the count is 0."""
    return np.where(count > 0, total / np.maximum(count, 1), otherwise)


def _fitted(signals: NDArray[np.float64], inside: BoolArray) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if inside.all() or not inside.any():
        raise IncompatibleError("the shadows' records are all inside or all outside: nothing to learn from")
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=500)).fit(signals, inside)
