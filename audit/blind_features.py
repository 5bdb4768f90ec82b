"""Records as plain tables of numbers, for classifiers that see records and no model."""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .seeds import Seeds
from .text import TEXT_PADDING
from .types import IntArray, Rows

WIDEST = 256
"""Columns kept of wide features, half of them picked and half projected."""

VOCABULARY = 512
"""Most frequent tokens, words or character sequences counted, each in a column of its own."""

CHARACTERS = 3
"""Bytes in a row that are counted together."""

CAPITALS = slice(ord("A"), ord("Z") + 1)
_WORD = re.compile(r"\w+")

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
    return _standardised(np.concatenate([content, _one_hot(rows.labels[chosen], rows.classes), place], axis=1))


def describe_words(rows: Rows, chosen: IntArray) -> NDArray[np.float64] | None:
    """Standardised columns (len(chosen), columns) of the *words* of byte rows; None for rows that are no text as bytes.

    log(1 + count) of the most frequent words (runs of letters and digits, lower case) and of the most frequent runs of
    three bytes (A to Z as a to z), each kind with a column for all rarer ones and one for how many different ones a
    record has. Words are told apart by their CRC-32. Like `describe` a function of the records alone, and so is the
    choice of the most frequent.
    """
    if not is_byte_text(rows):
        return None
    features = np.asarray(rows.features[chosen], np.int64)
    words = [[zlib.crc32(word.encode()) for word in _WORD.findall(_text(row))] for row in features]
    runs = _byte_runs(features)
    return _standardised(np.concatenate([_token_counts(_padded(words)), _token_counts(runs)], axis=1))


def is_byte_text(rows: Rows) -> bool:
    """Whether the features are bytes of text: int64 (records, length), 0 to 255, filled up with 256."""
    features = rows.features
    if features.dtype != np.int64 or features.ndim != 2 or not features.size:
        return False
    return bool(features.min() >= 0 and features.max() <= TEXT_PADDING)


def _text(row: NDArray[np.int64]) -> str:
    return bytes(row[row < TEXT_PADDING].astype(np.uint8)).decode("utf-8", "replace").lower()


def _padded(lists: list[list[int]]) -> NDArray[np.int64]:
    """Codes (records, longest), filled up with -1."""
    out = np.full((len(lists), max(1, *map(len, lists))), -1, np.int64)
    for row, codes in zip(out, lists, strict=True):
        row[: len(codes)] = codes
    return out


def _byte_runs(features: NDArray[np.int64]) -> NDArray[np.int64]:
    """A code for every run of three bytes, (records, places); -1 where a run reaches into the padding."""
    width = max(CHARACTERS, features.shape[1])
    wide = np.full((len(features), width), TEXT_PADDING, np.int64)
    wide[:, : features.shape[1]] = features
    capital = (wide >= CAPITALS.start) & (wide < CAPITALS.stop)
    lowered = np.where(capital, wide + 32, wide)
    places = width - CHARACTERS + 1
    codes = np.zeros((len(features), places), np.int64)
    for k in range(CHARACTERS):
        codes = codes * (TEXT_PADDING + 1) + lowered[:, k : k + places]
    # Padding stands at the end, so that a run without any ends before it.
    return np.where(lowered[:, CHARACTERS - 1 :] == TEXT_PADDING, -1, codes)


def _standardised(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns of mean 0 and deviation 1; constant ones are left out."""
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
