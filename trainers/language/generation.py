"""What a causal model writes after many prefixes at once, through one cache: greedy, drawn at random, by beam search.

Prefixes of different lengths are padded on the left; padding is masked out, and positions count from each row's own
first token, so that absolute (GPT-2) and rotary (Llama) positions are those of the prefix alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.seeds import Seeds
from ...audit.text import NO_TOKEN, Beams, Sampling, Tokens

BATCH = 128
"""Rows continued at a time."""
CELLS = 1 << 25
"""Probabilities held at a time in double precision (256 MB)."""


class Writer:
    """Rows being written: `logits` (rows, vocabulary) say what may follow; `write` puts one more token to each row."""

    def __init__(self, inner: Any, prefixes: Sequence[Tokens], device: str) -> None:
        from transformers import DynamicCache

        longest = max(map(len, prefixes))
        tokens = torch.zeros((len(prefixes), longest), dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for row, known, prefix in zip(tokens, mask, prefixes, strict=True):
            row[longest - len(prefix) :] = torch.from_numpy(np.asarray(prefix, np.int64))
            known[longest - len(prefix) :] = 1
        self.inner, self.cache = inner, DynamicCache()
        self.mask = mask.to(device)
        self.logits = self._read(tokens.to(device), (self.mask.cumsum(1) - 1).clamp_min(0))

    def write(self, tokens: Tensor) -> None:
        """Add `tokens` (rows,)."""
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)
        self.logits = self._read(tokens[:, None], self.mask.sum(1, keepdim=True) - 1)

    def choose(self, rows: Tensor) -> None:
        """Go on with these rows, some of them several times or not at all."""
        self.cache.batch_select_indices(rows)
        self.mask, self.logits = self.mask[rows], self.logits[rows]

    def _read(self, tokens: Tensor, positions: Tensor) -> Tensor:
        answer = self.inner(
            input_ids=tokens,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: Tensor = answer.logits[:, -1]
        return logits


@torch.no_grad()
def write_greedily(model: nn.Module, prefixes: Sequence[Tokens], count: int, *, device: str) -> Tokens:
    """As in `TextGenerator.continue_greedily`."""
    out = np.zeros((len(prefixes), count), np.int64)
    for rows, writer in _writers(model, prefixes, count, device):
        for place in range(count):
            chosen = writer.logits.argmax(-1)
            out[rows, place] = chosen.cpu().numpy()
            if place + 1 < count:
                writer.write(chosen)
    return out


@torch.no_grad()
def write_randomly(
    model: nn.Module, prefixes: Sequence[Tokens], count: int, sampling: Sampling, *, seeds: Seeds, device: str
) -> Tokens:
    """As in `TextGenerator.continue_randomly`: by inverting the distribution at uniform numbers drawn for each row and
    place, whatever rows are computed together."""
    uniform = seeds.generator().random((len(prefixes), count))
    out = np.zeros((len(prefixes), count), np.int64)
    for rows, writer in _writers(model, prefixes, count, device):
        for place in range(count):
            law = restricted(writer.logits, sampling).exp().cumsum(-1)
            drawn = torch.from_numpy(uniform[rows, place]).to(device)[:, None] * law[:, -1:]
            # A product that rounds up to the total would name a token past the last possible one.
            drawn = torch.minimum(drawn, torch.nextafter(law[:, -1:], torch.zeros_like(drawn)))
            chosen = torch.searchsorted(law, drawn, right=True)[:, 0]
            out[rows, place] = chosen.cpu().numpy()
            if place + 1 < count:
                writer.write(chosen)
    return out


@torch.no_grad()
def write_by_beams(model: nn.Module, prefixes: Sequence[Tokens], count: int, beams: int, *, device: str) -> Beams:
    """As in `TextGenerator.continue_by_beams`. No length penalty: all continuations have `count` tokens."""
    if beams < 1:
        raise ConfigError(f"beams must be >= 1, got {beams}")
    tokens = np.zeros((len(prefixes), beams, count), np.int64)
    found = np.zeros((len(prefixes), beams))
    for rows, writer in _writers(model, prefixes, count, device, ways=beams):
        tokens[rows], found[rows] = _search(writer, count, beams)
    return Beams(tokens, found)


def _search(writer: Writer, count: int, beams: int) -> tuple[Tokens, NDArray[np.float64]]:
    """(tokens (prefixes, beams, count), log-probabilities (prefixes, beams)) of one batch."""
    prefixes, vocabulary = writer.logits.shape
    device = writer.logits.device
    first = torch.arange(prefixes, device=device)[:, None] * beams
    writer.choose(torch.arange(prefixes, device=device).repeat_interleave(beams))
    totals = torch.full((prefixes, beams), -torch.inf, dtype=torch.float64, device=device)
    totals[:, 0] = 0.0
    written = torch.zeros((prefixes, beams, 0), dtype=torch.long, device=device)
    for place in range(count):
        logs = writer.logits.double().log_softmax(-1).view(prefixes, beams, vocabulary)
        totals, best = (totals[..., None] + logs).flatten(1).topk(beams, dim=1)
        parent, token = best // vocabulary, best % vocabulary
        kept = written.gather(1, parent[..., None].expand(-1, -1, place))
        written = torch.cat([kept, token[..., None]], dim=2)
        if place + 1 < count:
            writer.choose((first + parent).flatten())
            writer.write(token.flatten())
    return written.cpu().numpy(), totals.cpu().numpy()


@torch.no_grad()
def suffix_log_probabilities(
    model: nn.Module, prefixes: Sequence[Tokens], suffixes: Sequence[Tokens], sampling: Sampling, *, device: str
) -> NDArray[np.float64]:
    """As in `TextGenerator.suffix_log_probabilities`: one pass over each whole text, without a cache."""
    inner = causal(model)
    whole = [np.concatenate([p, s]).astype(np.int64) for p, s in zip(prefixes, suffixes, strict=True)]
    _check_room(inner, prefixes, [len(s) for s in suffixes])
    out = np.zeros(len(whole))
    longest = max(map(len, whole), default=1)
    for rows in _batches([len(w) for w in whole], rows_at_once(longest, vocabulary_of(inner))):
        length = max(2, *(len(whole[r]) for r in rows))
        tokens = torch.zeros((len(rows), length), dtype=torch.long)
        counted = torch.zeros((len(rows), length - 1), dtype=torch.bool)
        for k, r in enumerate(rows):
            tokens[k, : len(whole[r])] = torch.from_numpy(whole[r])
            counted[k, len(prefixes[r]) - 1 : len(whole[r]) - 1] = True
        tokens, counted = tokens.to(device), counted.to(device)
        # Padding stands on the right, where no earlier token sees it.
        positions = torch.arange(length - 1, device=device).expand(len(rows), -1)
        logits = inner(input_ids=tokens[:, :-1], position_ids=positions, use_cache=False).logits
        logs = restricted(logits, sampling).gather(2, tokens[:, 1:, None])[..., 0]
        out[rows] = torch.where(counted, logs, 0.0).sum(1).cpu().numpy()
    return out


@torch.no_grad()
def likeliest_tokens(model: nn.Module, texts: Sequence[Tokens], count: int, *, device: str) -> Beams:
    """As in `TextGenerator.likeliest_tokens`."""
    inner = causal(model)
    _check_room(inner, texts, [1] * len(texts))
    longest, vocabulary = max(map(len, texts), default=1), vocabulary_of(inner)
    count = min(count, vocabulary)
    found = np.full((len(texts), longest, count), NO_TOKEN, np.int64)
    logs = np.full((len(texts), longest, count), -np.inf)
    for rows in _batches([len(t) for t in texts], rows_at_once(longest, vocabulary)):
        length = max(len(texts[r]) for r in rows)
        tokens = torch.zeros((len(rows), length), dtype=torch.long)
        for k, r in enumerate(rows):
            tokens[k, : len(texts[r])] = torch.from_numpy(np.asarray(texts[r], np.int64))
        positions = torch.arange(length, device=device).expand(len(rows), -1)
        answer = inner(input_ids=tokens.to(device), position_ids=positions, use_cache=False).logits
        best = answer.double().log_softmax(-1).topk(count, dim=-1)
        for k, r in enumerate(rows):
            last = len(texts[r]) - 1
            found[r, 1 : last + 1] = best.indices[k, :last].cpu().numpy()
            logs[r, 1 : last + 1] = best.values[k, :last].cpu().numpy()
    return Beams(found, logs)


def restricted(logits: Tensor, sampling: Sampling) -> Tensor:
    """Natural-log probabilities of the next token under the scheme, in double precision; minus infinity for tokens it
    leaves out."""
    logs = (logits.double() / sampling.temperature).log_softmax(-1)
    if 0 < sampling.top_k < logs.shape[-1]:
        least = logs.topk(sampling.top_k, dim=-1).values[..., -1:]
        logs = logs.masked_fill(logs < least, -torch.inf).log_softmax(-1)
    if sampling.top_p < 1:
        ordered, order = logs.sort(dim=-1, descending=True, stable=True)
        weights = ordered.exp()
        before = weights.cumsum(-1) - weights
        left_out = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= sampling.top_p)
        logs = logs.masked_fill(left_out, -torch.inf).log_softmax(-1)
    return logs


def causal(model: nn.Module) -> Any:
    """The Hugging Face model inside, after checking that it predicts the next token. `IncompatibleError` otherwise."""
    inner: Any = getattr(model, "inner", model)
    if getattr(model, "objective", "causal") != "causal" or "MaskedLM" in type(inner).__name__:
        raise IncompatibleError(
            f"a {type(inner).__name__} tells hidden tokens and cannot continue a text: use a causal model, such as "
            "GPT-2 or Llama"
        )
    return inner


def vocabulary_of(inner: Any) -> int:
    """Token ids that the model knows."""
    return int(inner.config.vocab_size)


def context_of(inner: Any) -> int:
    """The most tokens that the model reads."""
    return int(inner.config.max_position_embeddings)


def rows_at_once(length: int, vocabulary: int) -> int:
    """Rows whose probabilities at every place fit in memory together, at least one."""
    return max(1, min(BATCH, CELLS // (length * vocabulary)))


def _writers(
    model: nn.Module, prefixes: Sequence[Tokens], count: int, device: str, ways: int = 1
) -> Iterator[tuple[NDArray[np.int64], Writer]]:
    """Batches of rows of like length, each read and ready to be continued."""
    inner = causal(model)
    if count < 1:
        raise ConfigError(f"a continuation has at least one token, got {count}")
    _check_room(inner, prefixes, [count] * len(prefixes))
    for rows in _batches([len(p) for p in prefixes], max(1, BATCH // ways)):
        yield rows, Writer(inner, [prefixes[r] for r in rows], device)


def _batches(lengths: Sequence[int], size: int) -> Iterator[NDArray[np.int64]]:
    order = np.argsort(lengths, kind="stable")
    return (order[start : start + size] for start in range(0, len(order), size))


def _check_room(inner: Any, prefixes: Sequence[Tokens], counts: Sequence[int]) -> None:
    if any(len(prefix) < 1 for prefix in prefixes):
        raise ConfigError("language: an empty prefix has nothing to continue")
    longest = max((len(p) + count for p, count in zip(prefixes, counts, strict=True)), default=0)
    # The last token is written and not read again.
    if longest - 1 > context_of(inner):
        raise IncompatibleError(
            f"language: a prefix and its continuation have {longest} tokens, and the model reads {context_of(inner)}: "
            "shorten them, or train with a larger length"
        )
