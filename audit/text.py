"""Language models as attacks see them, and what trainers of them say about their worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError
from .seeds import Seeds
from .types import BoolArray, Rows, Trained

TEXT_PADDING = 256
"""Fills up byte rows; bytes are 0 to 255."""

NO_TOKEN = -1
"""Fills up rows of token ids."""

Tokens = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a next token is drawn: logits are divided by `temperature`; then only the `top_k` likeliest tokens stay (0:
    all; equals of the last one too), and of these the fewest that hold the share `top_p` of the probability."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be > 0, got {self.temperature}; use greedy decoding for 0")
        if self.top_k < 0:
            raise ConfigError(f"top_k must be >= 0 (0: all tokens), got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must lie in (0, 1], got {self.top_p}")


@dataclass(frozen=True, slots=True)
class Beams:
    """Tokens by rank, likeliest first, with natural-log probabilities. Continuations: `tokens` (prefixes, beams,
    count), `log_probabilities` (prefixes, beams), minus infinity where there are fewer continuations than beams."""

    tokens: Tokens
    log_probabilities: NDArray[np.float64]


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
class TextGenerator(Protocol):
    """A causal language model that writes: many prefixes of any lengths at once. A prefix is at least one token; prefix
    and continuation together must fit the model's context (`IncompatibleError` otherwise)."""

    @property
    def context(self) -> int:
        """The most tokens that the model reads."""

    def encode(self, text: str) -> Tokens:
        """Token ids of a text, (tokens,)."""

    def encode_rows(self, features: NDArray[Any]) -> Tokens:
        """Token ids of byte rows as the model was trained on them, (records, tokens), filled up with `NO_TOKEN`."""

    def decode(self, tokens: Tokens) -> str:
        """The text of token ids."""

    def continue_greedily(self, prefixes: Sequence[Tokens], count: int) -> Tokens:
        """The likeliest next token, `count` times: (prefixes, count)."""

    def continue_randomly(self, prefixes: Sequence[Tokens], count: int, sampling: Sampling, *, seeds: Seeds) -> Tokens:
        """One random continuation of each prefix, (prefixes, count). A row's randomness depends on its place alone."""

    def continue_by_beams(self, prefixes: Sequence[Tokens], count: int, beams: int) -> Beams:
        """The `beams` best continuations that beam search finds, by their summed log-probability."""

    def likeliest_tokens(self, texts: Sequence[Tokens], count: int) -> Beams:
        """At every place of every text the `count` likeliest tokens after what stands before it, and their natural-log
        probabilities: `tokens` and `log_probabilities` (texts, longest, count); `NO_TOKEN` at the first place and past
        the end."""

    def suffix_log_probabilities(
        self, prefixes: Sequence[Tokens], suffixes: Sequence[Tokens], sampling: Sampling
    ) -> NDArray[np.float64]:
        """ln of the probability that `continue_randomly` writes suffix k after prefix k, exactly, (prefixes,); minus
        infinity where the scheme cannot write it."""


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
