"""Text canaries as token rows: random tokens, a new token, text sampled at high temperature, templated numbers.

All are made of public things and of `seeds`, and no coin is read: whether a canary is inserted changes nothing in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray
from .fitting import Beginning, public_rows, starting_model, tokenizer_of, vocabulary_of
from .tokenizer import Tokenizer

RANDOM, NEW, HOT, TEMPLATED = "text-random-token", "text-new-token", "text-high-temperature", "text-templated"
KINDS = (RANDOM, NEW, HOT, TEMPLATED)
SAMPLED_AT_A_TIME = 256


@dataclass(frozen=True, slots=True)
class TextCanaries:
    """`tokens` int64 (canaries, length), padded. `scored` bool (canaries, length): the tokens whose probability tells;
    never the first, which nothing predicts. `first_new` is the id of the first token that no other record has; the
    canary at position i ends in `first_new + i`. None: the canaries use the old vocabulary."""

    tokens: NDArray[np.int64]
    scored: BoolArray
    first_new: int | None = None


@dataclass(frozen=True, slots=True)
class Workshop:
    """What canaries are made of: public things alone."""

    beginning: Beginning
    device: str

    @property
    def tokenizer(self) -> Tokenizer:
        """The trainer's."""
        return tokenizer_of(self.beginning)

    @property
    def length(self) -> int:
        """Tokens of a row."""
        return self.beginning.length


def craft(kind: str, count: int, parameters: Mapping[str, Any], shop: Workshop, *, seeds: Seeds) -> TextCanaries:
    """`count` different canaries of `kind`. Raises `IncompatibleError` where two are equal or the kind cannot be made
    with this trainer."""
    makers = {RANDOM: _random, NEW: _new, HOT: _hot, TEMPLATED: _templated}
    if kind not in makers:
        raise IncompatibleError(f"language: canaries must be of kind {', '.join(KINDS)}; got {kind!r}")
    made = makers[kind](count, parameters, shop, seeds)
    different = len(np.unique(made.tokens, axis=0))
    if different < count:
        raise IncompatibleError(
            f"language: {count} {kind} canaries asked for, but only {different} are different: ask for fewer, or for "
            "longer ones (more tokens or digits)"
        )
    return made


def _random(count: int, parameters: Mapping[str, Any], shop: Workshop, seeds: Seeds) -> TextCanaries:
    """Tokens drawn uniformly from the vocabulary."""
    length = canary_length(parameters, shop)
    tokens = _ordinary(shop.tokenizer)[
        seeds.at("tokens").generator().integers(shop.tokenizer.vocabulary - 1, size=(count, length))
    ]
    return _whole(tokens, shop)


def _hot(count: int, parameters: Mapping[str, Any], shop: Workshop, seeds: Seeds) -> TextCanaries:
    """Text that the public model writes at high temperature after one random token (Mitchell and Andrew 2026, arXiv
    2606.10481): unlikely, yet made of words, so that people can inspect it."""
    length = canary_length(parameters, shop)
    return _whole(sampled(shop, count, length, float(parameters.get("temperature", 2.0)), seeds=seeds), shop)


def _new(count: int, parameters: Mapping[str, Any], shop: Workshop, seeds: Seeds) -> TextCanaries:
    """Ordinary text followed by a token that occurs nowhere else (Panda et al. 2025, arXiv 2503.06808)."""
    prefix = int(parameters.get("prefix_tokens", 1))
    if not 1 <= prefix < shop.length:
        raise IncompatibleError(
            f"language: prefix_tokens must lie in 1..{shop.length - 1}, the row's tokens less one; got {prefix}"
        )
    distinct = min(count, int(parameters.get("prefixes") or count))
    texts = ordinary_text(shop, distinct, prefix, seeds=seeds)[np.arange(count) % distinct]
    first = vocabulary_of(shop.beginning)
    tokens = np.full((count, shop.length), shop.tokenizer.padding, np.int64)
    tokens[:, :prefix] = texts
    tokens[:, prefix] = first + np.arange(count)
    scored = np.zeros(tokens.shape, dtype=bool)
    scored[:, prefix] = True
    return TextCanaries(tokens, scored, first)


def _templated(count: int, parameters: Mapping[str, Any], shop: Workshop, seeds: Seeds) -> TextCanaries:
    """Sentences with a number drawn uniformly; the number's tokens are scored."""
    beginnings: Sequence[str] = parameters["beginnings"]
    digits, ending = int(parameters["digits"]), str(parameters["ending"])
    numbers = seeds.at("secrets").generator().integers(10**digits, size=count)
    tokens = np.full((count, shop.length), shop.tokenizer.padding, np.int64)
    scored = np.zeros(tokens.shape, dtype=bool)
    for row, mask, beginning, number in zip(tokens, scored, beginnings, numbers, strict=True):
        before = len(_shared(shop.tokenizer, beginning, f"{beginning}{number:0{digits}d}"))
        within = shop.tokenizer.encode(f"{beginning}{number:0{digits}d}".encode())
        whole = shop.tokenizer.encode(f"{beginning}{number:0{digits}d}{ending}".encode())
        if len(within) > shop.length:
            raise IncompatibleError(
                f"language: a templated canary has {len(within)} tokens up to its number, rows have {shop.length}: "
                "shorten template or raise length"
            )
        whole = whole[: shop.length]
        row[: len(whole)] = whole
        mask[max(1, before) : len(within)] = True
    return TextCanaries(tokens, scored)


def _shared(tokenizer: Tokenizer, text: str, longer: str) -> list[int]:
    """The tokens that both texts begin with: a tokenizer may merge the end of a text with what follows."""
    short, long = tokenizer.encode(text.encode()), tokenizer.encode(longer.encode())
    same = [a == b for a, b in zip(short, long, strict=False)]
    return short[: same.index(False)] if False in same else short


def canary_length(parameters: Mapping[str, Any], shop: Workshop) -> int:
    """Tokens of a random or sampled canary: `tokens`, by default a whole row."""
    tokens = int(parameters.get("tokens") or shop.length)
    if not 2 <= tokens <= shop.length:
        raise IncompatibleError(f"language: tokens of a canary must lie in 2..{shop.length}, the row; got {tokens}")
    return tokens


def ordinary_text(shop: Workshop, count: int, tokens: int, *, seeds: Seeds) -> NDArray[np.int64]:
    """(count, tokens) of ordinary text: from the public text at random places, or else written by the public model.
    Raises `IncompatibleError` where there is neither: private text would lie outside the canary's own coin."""
    if shop.beginning.public is not None:
        return _quoted(shop, count, tokens, seeds)
    if shop.beginning.is_public_model:
        return sampled(shop, count, tokens, 1.0, seeds=seeds)
    raise IncompatibleError(
        "language: new-token canaries begin with ordinary public text: set public (a data set or text file), or start "
        "from a pretrained model"
    )


def _quoted(shop: Workshop, count: int, tokens: int, seeds: Seeds) -> NDArray[np.int64]:
    rows = public_rows(shop.beginning)
    filled = (rows != shop.tokenizer.padding).sum(axis=1)
    long = np.flatnonzero(filled >= tokens)
    if not len(long):
        raise IncompatibleError(f"language: no public row has {tokens} tokens: lower prefix_tokens")
    generator = seeds.at("places").generator()
    chosen = generator.permutation(np.resize(long, max(count, len(long))))[:count]
    places = generator.integers(filled[chosen] - tokens + 1)
    quoted: NDArray[np.int64] = rows[chosen[:, None], places[:, None] + np.arange(tokens)]
    return quoted


def sampled(shop: Workshop, count: int, tokens: int, temperature: float, *, seeds: Seeds) -> NDArray[np.int64]:
    """(count, tokens) written by the model before fine-tuning at `temperature`, each after a random first token.
    Raises `IncompatibleError` where that model is not public."""
    import torch

    if not shop.beginning.is_public_model:
        raise IncompatibleError(
            "language: sampled canaries are written by a public model: set public and public_epochs, or pretrained"
        )
    generator = seeds.at("sampled").torch_generator(shop.device)
    start = _ordinary(shop.tokenizer)[
        seeds.at("first").generator().integers(shop.tokenizer.vocabulary - 1, size=(count, 1))
    ]
    # The public model does not depend on these seeds.
    model = starting_model(shop.beginning, seeds=seeds, device=shop.device)
    parts = torch.split(torch.from_numpy(start).to(shop.device), SAMPLED_AT_A_TIME)
    written = [_write(model, part, tokens, temperature, shop.tokenizer.padding, generator) for part in parts]
    text: NDArray[np.int64] = torch.cat(written).cpu().numpy()
    return text


def _write(model: Any, start: Any, tokens: int, temperature: float, padding: int, generator: Any) -> Any:
    import torch
    from transformers import DynamicCache

    with torch.no_grad():
        text, cache = start, DynamicCache()
        logits, cache = model.extend(start, cache, 0)
        while text.shape[1] < tokens:
            logits = logits.double() / temperature
            logits[:, padding] = -torch.inf
            drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)
            text = torch.cat([text, drawn], dim=1)
            logits, cache = model.extend(drawn, cache, text.shape[1] - 1)
    return text[:, :tokens]


def _ordinary(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Every token but padding."""
    return np.delete(np.arange(tokenizer.vocabulary, dtype=np.int64), tokenizer.padding)


def _whole(tokens: NDArray[np.int64], shop: Workshop) -> TextCanaries:
    """Canaries whose every token but the first is scored."""
    count, length = tokens.shape
    padded = np.full((count, shop.length), shop.tokenizer.padding, np.int64)
    padded[:, :length] = tokens
    scored = np.zeros(padded.shape, dtype=bool)
    scored[:, 1:length] = True
    return TextCanaries(padded, scored)
