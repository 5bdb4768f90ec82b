"""How a text that was surely not trained on, put before another, changes the other's probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...audit.seeds import Seeds
from ...audit.text import NO_TOKEN, Sampling
from ...audit.types import Access, Rows, Trained
from .queries import generator_of, text_of

LONGEST_PREFIX = 2000
"""Bytes of public text put before records."""


@dataclass(frozen=True, slots=True)
class PrefixedStatistics:
    """Mean log-probability of a record's tokens after `prefix`, and without it: float32 (records, 2).

    The prefix takes at most half of the model's context, and a record counts as far as it fits behind it; both means
    are over the same tokens, the first left out. 0 for a record without any.
    """

    name: ClassVar[str] = "prefixed-statistics"
    version: ClassVar[str] = "1"
    access: ClassVar[Access] = Access.LOGITS

    prefix: str

    def ask(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:  # noqa: ARG002
        """As in `Query`. Raises `IncompatibleError` for a model that is no causal language model."""
        model = generator_of(trained.target)
        before = model.encode(self.prefix)[: model.context // 2]
        room = model.context - len(before)
        texts = [row[row != NO_TOKEN][:room] for row in model.encode_rows(rows.features)]
        out = np.zeros((len(texts), 2), np.float32)
        asked = [k for k, text in enumerate(texts) if len(text) > 1]
        first, rest = [texts[k][:1] for k in asked], [texts[k][1:] for k in asked]
        counts = np.array([len(r) for r in rest])
        after = [np.concatenate([before, token]) for token in first]
        for column, prefixes in enumerate((after, first)):
            out[asked, column] = model.suffix_log_probabilities(prefixes, rest, Sampling()) / counts
        return out


def public_prefix(population: Rows) -> str:
    """The first public rows as one text; empty where there are none or they are no byte rows."""
    if population.features.dtype != np.int64 or population.features.ndim != 2:
        return ""
    pieces, size = [], 0
    for row in population.features:
        pieces.append(text_of(row))
        size += len(pieces[-1]) + 1
        if size > LONGEST_PREFIX:
            break
    return b"\n".join(pieces)[:LONGEST_PREFIX].decode("utf-8", "ignore")
