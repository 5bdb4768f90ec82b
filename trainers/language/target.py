"""A trained language model behind the text interface: exact scores of all numbers through a shared cache."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.seeds import Seeds
from ...audit.text import NO_TOKEN, Beams, Sampling, Tokens
from .generation import (
    causal,
    context_of,
    likeliest_tokens,
    rows_at_once,
    suffix_log_probabilities,
    vocabulary_of,
    write_by_beams,
    write_greedily,
    write_randomly,
)
from .model import CausalModel
from .tokenizer import Tokenizer, token_rows

SIBLINGS = 1000
"""Branches scored at a time: each costs a copy of the cache."""


class LanguageTarget:
    """Implements `audit.text.TextModel` and `TextGenerator`, and `Target` for unlabelled rows (one class, which means
    nothing)."""

    def __init__(self, model: CausalModel, tokenizer: Tokenizer, length: int, device: str) -> None:
        self.model, self.tokenizer, self.length, self.device = model.to(device).eval(), tokenizer, length, device

    def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """As in `Target`: text without labels has the one class, with probability 1."""
        return np.zeros((len(features), 1), np.float32)

    def token_log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """As in `TextModel`."""
        return self.token_statistics(features)[..., 0]

    @torch.no_grad()
    def token_statistics(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """As in `TextModel`."""
        tokens = token_rows(features, self.tokenizer, self.length)
        out = np.full((*tokens.shape, 3), np.nan)
        step = rows_at_once(tokens.shape[1], vocabulary_of(causal(self.model)))
        for start in range(0, len(tokens), step):
            here = torch.from_numpy(tokens[start : start + step]).to(self.device)
            # Padding, which a pretrained model may have no embedding for, stands where no earlier token sees it.
            read = here.masked_fill(here == self.tokenizer.padding, 0)
            logs = self.model(read[:, :-1]).double().log_softmax(-1)
            weights = logs.exp()
            mean = (weights * logs).sum(-1)
            spread = ((weights * logs.square()).sum(-1) - mean.square()).clamp_min(0).sqrt()
            found = torch.stack([logs.gather(2, read[:, 1:, None])[..., 0], mean, spread], dim=2)
            found[here[:, 1:] == self.tokenizer.padding] = torch.nan
            out[start : start + step, 1:] = found.cpu().numpy()
        return out

    @torch.no_grad()
    def continuation_log_probabilities(self, prefix: str, continuations: Sequence[str]) -> NDArray[np.float64]:
        """As in `TextModel`. Raises `IncompatibleError` for continuations of different numbers of tokens."""
        tokens = [self.tokenizer.encode(text.encode()) for text in continuations]
        if len({len(t) for t in tokens}) > 1 or not tokens or not tokens[0]:
            raise IncompatibleError(
                f"language: continuations must have one number of tokens, got {sorted({len(t) for t in tokens})}"
            )
        grid = torch.tensor(tokens, device=self.device)
        out = [self._walk(prefix, part) for part in torch.split(grid, SIBLINGS)]
        return np.concatenate(out)

    def _walk(self, prefix: str, grid: Tensor) -> NDArray[np.float64]:
        """ln P of each row of `grid` (rows, tokens) after `prefix`; rows share the contexts of equal beginnings."""
        logits, cache, start = self._read(prefix)
        total = torch.zeros(len(grid), dtype=torch.float64, device=self.device)
        context = torch.zeros(len(grid), dtype=torch.long, device=self.device)
        for place in range(grid.shape[1]):
            total += logits.double().log_softmax(-1)[context, grid[:, place]]
            if place + 1 < grid.shape[1]:
                grown = torch.stack([context, grid[:, place]], dim=1)
                distinct, context = torch.unique(grown, dim=0, return_inverse=True)
                cache.batch_select_indices(distinct[:, 0])
                logits, cache = self.model.extend(distinct[:, 1:], cache, start)
                start += 1
        return np.asarray(total.cpu().numpy(), np.float64)

    @torch.no_grad()
    def number_log_probabilities(self, prefix: str, digits: int) -> NDArray[np.float64]:
        """As in `TextModel`: numbers share their first digits, so that about 10^digits / 9 contexts are computed."""
        ids = self._digits()
        logits, cache, start = self._read(prefix)
        return self._branch(logits, cache, start, digits, ids)

    def _branch(self, logits: Tensor, cache: Any, start: int, digits: int, ids: Tensor) -> NDArray[np.float64]:
        """ln P of all continuations of each row of `logits`, row after row."""
        first = logits.double().log_softmax(-1)[:, ids]
        if digits == 1:
            return np.asarray(first.flatten().cpu().numpy(), np.float64)
        if len(logits) * 10 > SIBLINGS:
            parts = []
            for rows in torch.split(torch.arange(len(logits)), SIBLINGS // 10):
                few = copy.deepcopy(cache)
                few.batch_select_indices(rows)
                parts.append(self._branch(logits[rows], few, start, digits, ids))
            return np.concatenate(parts)
        cache.batch_repeat_interleave(10)
        after, grown = self.model.extend(ids.repeat(len(logits))[:, None], cache, start)
        rest = self._branch(after, grown, start + 1, digits - 1, ids)
        leading: NDArray[np.float64] = first.flatten().cpu().numpy()
        return np.asarray((leading[:, None] + rest.reshape(len(leading), -1)).ravel(), np.float64)

    @torch.no_grad()
    def greedy(self, prefix: str, characters: int) -> str:
        """As in `TextModel`."""
        logits, cache, start = self._read(prefix)
        tokens: list[int] = []
        text = ""
        # A character has at most four bytes, and a token at least one.
        while len(text) < characters and len(tokens) < 4 * characters:
            tokens.append(int(logits[0].argmax()))
            text = self.tokenizer.decode(tokens)
            logits, cache = self.model.extend(torch.tensor([tokens[-1:]], device=self.device), cache, start)
            start += 1
        return text[:characters]

    @property
    def context(self) -> int:
        """As in `TextGenerator`."""
        return context_of(causal(self.model))

    def encode(self, text: str) -> Tokens:
        """As in `TextGenerator`."""
        return np.asarray(self.tokenizer.encode(text.encode()), np.int64)

    def encode_rows(self, features: NDArray[Any]) -> Tokens:
        """As in `TextGenerator`."""
        tokens = token_rows(features, self.tokenizer, self.length)
        return np.where(tokens == self.tokenizer.padding, NO_TOKEN, tokens)

    def decode(self, tokens: Tokens) -> str:
        """As in `TextGenerator`."""
        return self.tokenizer.decode([int(token) for token in tokens if token != NO_TOKEN])

    def continue_greedily(self, prefixes: Sequence[Tokens], count: int) -> Tokens:
        """As in `TextGenerator`."""
        return write_greedily(self.model, prefixes, count, device=self.device)

    def continue_randomly(self, prefixes: Sequence[Tokens], count: int, sampling: Sampling, *, seeds: Seeds) -> Tokens:
        """As in `TextGenerator`."""
        return write_randomly(self.model, prefixes, count, sampling, seeds=seeds, device=self.device)

    def continue_by_beams(self, prefixes: Sequence[Tokens], count: int, beams: int) -> Beams:
        """As in `TextGenerator`."""
        return write_by_beams(self.model, prefixes, count, beams, device=self.device)

    def likeliest_tokens(self, texts: Sequence[Tokens], count: int) -> Beams:
        """As in `TextGenerator`."""
        return likeliest_tokens(self.model, texts, count, device=self.device)

    def suffix_log_probabilities(
        self, prefixes: Sequence[Tokens], suffixes: Sequence[Tokens], sampling: Sampling
    ) -> NDArray[np.float64]:
        """As in `TextGenerator`."""
        return suffix_log_probabilities(self.model, prefixes, suffixes, sampling, device=self.device)

    def _read(self, prefix: str) -> tuple[Tensor, Any, int]:
        from transformers import DynamicCache

        tokens = self.tokenizer.encode(prefix.encode())
        if not tokens:
            raise ConfigError("language: an empty prefix has nothing to continue")
        logits, cache = self.model.extend(torch.tensor([tokens], device=self.device), DynamicCache(), 0)
        return logits, cache, len(tokens)

    def _digits(self) -> Tensor:
        ids = [self.tokenizer.encode(str(d).encode()) for d in range(10)]
        if any(len(i) != 1 for i in ids):
            raise IncompatibleError("language: this tokenizer has no single token for each digit")
        return torch.tensor([i[0] for i in ids], device=self.device)
