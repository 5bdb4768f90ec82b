"""Language models as attacks see them, and what trainers of them say about their worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .types import BoolArray, Rows, Trained

TEXT_PADDING = 256
"""Fills up byte rows; bytes are 0 to 255."""


@runtime_checkable
class TextModel(Protocol):
    """A causal language model: probabilities of text, given what comes before it. All logarithms are natural."""

    def continuation_log_probabilities(self, prefix: str, continuations: Sequence[str]) -> NDArray[np.float64]:
        """ln P[continuation | prefix], (continuations,); each is the sum over its tokens."""

    def number_log_probabilities(self, prefix: str, digits: int) -> NDArray[np.float64]:
        """ln P[number | prefix] of all 10^digits numbers, zeros in front included, in increasing order."""

    def greedy(self, prefix: str, characters: int) -> str:
        """The first `characters` characters of the most likely continuation, token after token."""

    def token_log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """ln P[token | tokens before it] of byte rows, (records, tokens); NaN at the first token and at padding."""

    def token_statistics(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """The same, then mean and standard deviation of the log-probability of a token drawn from the model at that
        place: (records, tokens, 3), NaN at the same places."""


@runtime_checkable
class TextTrainer(Protocol):
    """A trainer of language models whose rows are bytes, and which knows what its model is to be compared with."""

    def perplexities(
        self, trained: Trained, data: Rows, rows: BoolArray, held_out: Rows, *, device: str
    ) -> Mapping[str, float]:
        """Perplexity per token of `held_out` under `model`, under `unigram` (token frequencies of the training rows,
        one added to each) and, where the trainer starts from a public model, under that, `public`."""


def byte_rows(texts: Sequence[str], length: int) -> NDArray[np.int64]:
    """UTF-8 bytes of texts (texts, length), padded with `TEXT_PADDING`; what does not fit is cut."""
    out = np.full((len(texts), length), TEXT_PADDING, np.int64)
    for row, text in zip(out, texts, strict=True):
        data = np.frombuffer(text.encode()[:length], np.uint8)
        row[: len(data)] = data
    return out
