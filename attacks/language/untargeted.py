"""Texts that a model writes of its own accord, ranked by how much they look learned by heart, and looked up."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.seeds import Seeds
from ...audit.text import NO_TOKEN, Sampling, TextGenerator, Tokens
from ...audit.types import BoolArray
from .queries import text_of

SMALLEST = 1e-6
"""Least loss that another is divided by."""


@dataclass(frozen=True, slots=True)
class Written:
    """Different texts that a model wrote: tokens without the prompt, and what they say."""

    prompts: tuple[Tokens, ...]
    tokens: tuple[Tokens, ...]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)


def prompts_of(model: TextGenerator, features: NDArray[Any], count: int, length: int, *, seeds: Seeds) -> list[Tokens]:
    """The first `length` tokens of `count` rows drawn with replacement; none where no row is so long."""
    rows = model.encode_rows(features)
    usable = np.flatnonzero((rows != NO_TOKEN).sum(axis=1) >= length)
    if not len(usable):
        return []
    return [rows[k, :length] for k in seeds.generator().choice(usable, size=count)]


def written_randomly(
    model: TextGenerator, prompts: Sequence[Tokens], count: int, sampling: Sampling, *, seeds: Seeds
) -> Written:
    """One random continuation of each prompt."""
    return different(model, prompts, list(model.continue_randomly(prompts, count, sampling, seeds=seeds)))


def written_by_beams(model: TextGenerator, prompts: Sequence[Tokens], count: int, beams: int) -> Written:
    """The `beams` best continuations of each different prompt."""
    once = list({tuple(prompt.tolist()): prompt for prompt in prompts}.values())
    found = model.continue_by_beams(once, count, beams)
    pairs = [
        (prompt, tokens)
        for prompt, ways, logs in zip(once, found.tokens, found.log_probabilities, strict=True)
        for tokens, log in zip(ways, logs, strict=True)
        if np.isfinite(log)
    ]
    return different(model, [p for p, _ in pairs], [t for _, t in pairs])


def different(model: TextGenerator, prompts: Sequence[Tokens], tokens: Sequence[Tokens]) -> Written:
    """Each text once, with the first prompt that led to it."""
    first: dict[str, int] = {}
    for k, written in enumerate(tokens):
        first.setdefault(model.decode(written), k)
    kept = list(first.values())
    return Written(tuple(prompts[k] for k in kept), tuple(tokens[k] for k in kept), tuple(first))


def rankings(model: TextGenerator, written: Written, reference: TextGenerator | None) -> dict[str, NDArray[np.float64]]:
    """Scores of the texts by name, (texts,); higher looks more like training text.

    Carlini et al. 2021 (arXiv 2012.07805, section 5.2): `perplexity`; `zlib`, log-probability over compressed size;
    `lower-case`, loss against that of the text in lower case; `reference`, loss against another model's. Signs turned
    where needed; the last is a difference of mean log-probabilities.
    """
    total = model.suffix_log_probabilities(written.prompts, written.tokens, Sampling())
    own = total / [len(t) for t in written.tokens]
    sizes = [len(zlib.compress(text.encode())) for text in written.texts]
    lowered = _mean_log_probability(model, written.prompts, [text.lower() for text in written.texts])
    out = {"perplexity": own, "zlib": total / sizes, "lower-case": -own / np.minimum(lowered, -SMALLEST)}
    if reference is not None:
        prompts = [reference.encode(model.decode(prompt)) for prompt in written.prompts]
        out["reference"] = own - _mean_log_probability(reference, prompts, written.texts)
    return out


def _mean_log_probability(model: TextGenerator, prompts: Sequence[Tokens], texts: Sequence[str]) -> NDArray[np.float64]:
    """Mean over the tokens of each text after its prompt, as far as both fit, (texts,); 0 for an empty text."""
    tokens = [model.encode(text)[: model.context + 1 - len(p)] for text, p in zip(texts, prompts, strict=True)]
    total = model.suffix_log_probabilities(prompts, tokens, Sampling())
    return np.asarray(total / [max(1, len(t)) for t in tokens])


def verbatim(texts: Sequence[str], features: NDArray[Any], length: int) -> BoolArray:
    """Whether each text shares a run of `length` bytes with one of the byte rows `features`, exactly, (texts,)."""
    wanted: dict[bytes, set[int]] = {}
    for number, text in enumerate(texts):
        for window in _windows(text.encode(), length):
            wanted.setdefault(window, set()).add(number)
    found: set[int] = set()
    for row in features:
        for window in _windows(text_of(row), length):
            found |= wanted.get(window, set())
    return np.isin(np.arange(len(texts)), sorted(found))


def _windows(data: bytes, length: int) -> Iterable[bytes]:
    return (data[start : start + length] for start in range(len(data) - length + 1))
