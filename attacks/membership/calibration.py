"""Any one number per model and record, judged against what shadow models show with and without the record."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.types import BoolArray

SMALLEST_VARIANCE = 1e-12
"""Keeps the density finite where all shadows agree to the last bit."""


def likelihood_ratio(
    attack: str, target: NDArray[np.float64], shadows: NDArray[np.float64], inside: BoolArray
) -> NDArray[np.float64]:
    """log N(target; mean in, variance in) - log N(target; mean out, variance out), per record; higher for members.

    LiRA's online test with variances pooled over records (Carlini et al. 2022, arXiv 2112.03570), for any
    signal: `target` (records,), `shadows` and `inside` (shadows, records). A side without a shadow takes the other
    side's mean, moved by the average shift. `IncompatibleError` where no record has shadows on both sides.
    """
    mean_in, variance_in, has_in = _side(shadows, inside)
    mean_out, variance_out, has_out = _side(shadows, ~inside)
    both = has_in & has_out
    if not both.any():
        raise IncompatibleError(
            f"attack {attack!r}: no record is in some shadow models and out of others: train shadows on different "
            "parts of the audit records"
        )
    shift = float((mean_in - mean_out)[both].mean())
    mean_in, mean_out = np.where(has_in, mean_in, mean_out + shift), np.where(has_out, mean_out, mean_in - shift)
    return _log_normal(target - mean_in, variance_in) - _log_normal(target - mean_out, variance_out)


def _side(values: NDArray[np.float64], where: BoolArray) -> tuple[NDArray[np.float64], float, BoolArray]:
    """Mean per record over the shadows `where`, the pooled within-record variance, and which records have a shadow."""
    count = where.sum(axis=0)
    mean = np.where(where, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    squares = np.square(np.where(where, values - mean, 0.0)).sum()
    freedom = int(np.maximum(count - 1, 0).sum())
    return mean, max(float(squares / freedom), SMALLEST_VARIANCE) if freedom else 1.0, count > 0


def _log_normal(deviation: NDArray[np.float64], variance: float) -> NDArray[np.float64]:
    return np.asarray(-0.5 * (np.log(variance) + np.square(deviation) / variance), dtype=np.float64)
