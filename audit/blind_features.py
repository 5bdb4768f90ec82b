"""Records as a plain table of numbers, for classifiers that see records and no model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .seeds import Seeds
from .types import IntArray, Rows

WIDEST = 256
"""Columns kept of wide features, half of them picked and half projected."""

VOCABULARY = 512
"""Most frequent tokens counted."""

CHUNK = 1 << 23
"""Feature values turned into float64 at a time (64 MB)."""


def describe(rows: Rows, chosen: IntArray, *, seeds: Seeds) -> NDArray[np.float64]:
    """Standardised columns (len(chosen), columns) of the rows at positions `chosen`.

    Flattened features (int64 features are token ids and become log counts of the most frequent tokens), label one-hot,
    summary columns (norm, mean, spread, least, greatest, missing values), position and parity in `rows`. Membership
    plays no part. Features wider than `WIDEST` are reduced to a random pick and random projections of them.
    """
    text = rows.features.dtype == np.int64
    content = _token_counts(rows.features[chosen]) if text else _dense(rows.features, chosen, seeds)
    place = np.stack([chosen / max(len(rows) - 1, 1), chosen % 2], axis=1)
    table = np.concatenate([content, _one_hot(rows.labels[chosen], rows.classes), place], axis=1)
    spread = table.std(axis=0)
    kept = table[:, spread > 0]
    return np.asarray((kept - kept.mean(axis=0)) / spread[spread > 0], dtype=np.float64)


def _dense(features: NDArray[Any], chosen: IntArray, seeds: Seeds) -> NDArray[np.float64]:
    width = int(np.prod(features.shape[1:]))
    generator = seeds.generator()
    wide = width > WIDEST
    picked = generator.choice(width, WIDEST // 2, replace=False) if wide else np.arange(width)
    directions = generator.standard_normal((width, WIDEST // 2 if wide else 0)) / np.sqrt(width)
    step = max(1, CHUNK // width)
    parts = []
    for start in range(0, len(chosen), step):
        values = features[chosen[start : start + step]].reshape(-1, width).astype(np.float64)
        missing = ~np.isfinite(values)
        values[missing] = 0.0
        summary = [np.sqrt((values**2).sum(axis=1)), values.mean(axis=1), values.std(axis=1)]
        summary += [values.min(axis=1), values.max(axis=1), missing.sum(axis=1)]
        parts.append(np.concatenate([values[:, picked], values @ directions, np.stack(summary, axis=1)], axis=1))
    return np.concatenate(parts)


def _token_counts(tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """log(1 + count) of the most frequent tokens, and the number of distinct tokens per record."""
    tokens = tokens.reshape(len(tokens), -1)
    known, code, total = np.unique(tokens, return_inverse=True, return_counts=True)
    code = code.reshape(tokens.shape)
    column = np.full(len(known), VOCABULARY)
    frequent = np.argsort(-total, kind="stable")[:VOCABULARY]
    column[frequent] = np.arange(len(frequent))
    cells = np.arange(len(tokens))[:, None] * (VOCABULARY + 1) + column[code]
    counts = np.bincount(cells.ravel(), minlength=len(tokens) * (VOCABULARY + 1)).reshape(len(tokens), VOCABULARY + 1)
    ordered = np.sort(code, axis=1)
    distinct = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1, keepdims=True)
    return np.concatenate([np.log1p(counts), distinct], axis=1)


def _one_hot(labels: NDArray[np.int64], classes: int) -> NDArray[Any]:
    if classes > VOCABULARY:
        return labels[:, None].astype(np.float64)
    return np.eye(classes)[labels]
