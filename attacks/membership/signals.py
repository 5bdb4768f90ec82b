"""Per-record signals from natural-log class probabilities, read in chunks so that memory-mapped arrays stay on disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError

SMALLEST = float(np.log(np.finfo(np.float32).smallest_subnormal))
"""Log of the smallest float32, -103.28: a probability of 0 is read as this, so that every signal is finite."""

CHUNK = 1 << 20
"""Log-probabilities turned into float64 at a time (8 MB)."""

CACHED = 1 << 16
"""The same where they are worked on several times and should stay in the cache (512 kB)."""


def true_class(log_probabilities: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """log p_y, the log-probability of the given label, at most 0; higher for better fitted records.

    `log_probabilities` (records, classes), `labels` (records,); returns (records,).
    """
    taken = np.asarray(log_probabilities[np.arange(len(labels)), labels], dtype=np.float64)
    return np.maximum(_checked(taken), SMALLEST)


def logit(log_probabilities: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """log p_y - log sum_{j != y} p_j, the logit of the given label; higher for better fitted records.

    The sum runs over the other classes themselves: 1 - p_y would lose everything where p_y rounds to 1
    (Carlini et al. 2022, arXiv 2112.03570, section V.B). `log_probabilities` (records, classes), `labels`
    (records,); returns (records,). `ConfigError` with a single class.
    """
    records, classes = log_probabilities.shape
    if classes < 2:
        raise ConfigError(f"the logit signal needs at least 2 classes, got {classes}")
    out = np.empty(records)
    step = min(records, max(1, CACHED // classes))
    memory = np.empty((classes, step))
    for start in range(0, records, step):
        part = slice(start, min(start + step, records))
        values = memory[:, : part.stop - part.start]
        np.copyto(values, log_probabilities[part].T)
        out[part] = _logit(np.maximum(_checked(values), SMALLEST, out=values), labels[part])
    return out


def checked_chunks(log_probabilities: NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Which records, and their log-probabilities in float64, checked and at least `SMALLEST`: a chunk at a time."""
    records, classes = log_probabilities.shape
    step = max(1, CHUNK // classes)
    for start in range(0, records, step):
        part = slice(start, min(start + step, records))
        yield part, np.maximum(_checked(np.asarray(log_probabilities[part], dtype=np.float64)), SMALLEST)


def _logit(values: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of `values` (classes, records), which are overwritten. Sums over the first axis run over long contiguous rows:
    three times faster than over ten classes of one record after another."""
    rows = np.arange(len(labels))
    own = values[labels, rows]
    values[labels, rows] = -np.inf
    largest = values.max(axis=0)
    values -= largest
    np.exp(values, out=values)
    return np.asarray(own - (largest + np.log(values.sum(axis=0))), dtype=np.float64)


def _checked(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Refuse what cannot be natural-log probabilities: NaN, or clearly above 0 (probabilities, raw logits)."""
    largest = values.max(initial=-np.inf)
    if np.isnan(largest):
        raise ConfigError(f"signals: {int(np.isnan(values).sum())} log-probabilities are NaN: has the model diverged?")
    if largest > 1e-3:
        raise ConfigError(
            f"signals: natural-log probabilities are at most 0, got {largest:.4g}: apply log_softmax to logits, or log"
        )
    return values
