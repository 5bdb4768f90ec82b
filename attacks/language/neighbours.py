"""Texts like a given one, and how likely the model finds them: what a text's own probability is compared with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.seeds import Seeds
from ...audit.text import NO_TOKEN, Sampling, TextGenerator, TextModel, Tokens, byte_rows
from ...audit.types import Access, Rows, Trained
from .queries import generator_of, mean_known, text_model_of, text_of

Kind = Literal["model", "random-words"]
CANDIDATES = 8
"""Likely tokens that one is swapped for."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class NeighbourStatistics:
    """Mean log-probability of a token of `count` neighbours of each record, float32 (records, count).

    A neighbour has the share `swaps` of its places changed, at least one. With `kind` "model" a token gives way to one
    of the 8 others that the asked model finds likeliest after what stands before it, drawn by their probabilities; with
    "random-words" a word gives way to one drawn from all words of all records asked about. Mattern et al. 2023 (arXiv
    2305.18462) let a masked model of both sides propose; these stand in for it.
    """

    name: ClassVar[str] = "neighbour-statistics"
    version: ClassVar[str] = "1"
    access: ClassVar[Access] = Access.LOGITS

    count: int = 10
    swaps: float = 0.15
    kind: Kind = "model"

    def ask(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:  # noqa: ARG002
        """As in `Query`. Raises `IncompatibleError` for a model that is no causal language model."""
        if self.kind == "model":
            return self._of_tokens(generator_of(trained.target), rows.features, seeds)
        return self._of_words(text_model_of(trained.target), rows.features, seeds)

    def _of_tokens(self, model: TextGenerator, features: NDArray[Any], seeds: Seeds) -> NDArray[np.float32]:
        texts = [row[row != NO_TOKEN] for row in model.encode_rows(features)]
        asked = [k for k, text in enumerate(texts) if len(text) > 1]
        out = np.zeros((len(texts), self.count), np.float32)
        if not asked:
            return out
        likely = model.likeliest_tokens([texts[k] for k in asked], CANDIDATES + 1)
        for number in range(self.count):
            generator = seeds.at("neighbour", number).generator()
            made = [
                swapped_tokens(texts[k], tokens, logs, self.swaps, generator)
                for k, tokens, logs in zip(asked, likely.tokens, likely.log_probabilities, strict=True)
            ]
            total = model.suffix_log_probabilities([m[:1] for m in made], [m[1:] for m in made], Sampling())
            out[asked, number] = total / [len(m) - 1 for m in made]
        return out

    def _of_words(self, model: TextModel, features: NDArray[Any], seeds: Seeds) -> NDArray[np.float32]:
        texts = [text_of(row).decode("utf-8", "replace") for row in features]
        pool = sorted({word for text in texts for word in _WORD.findall(text)})
        out = np.zeros((len(texts), self.count), np.float32)
        for number in range(self.count if pool else 0):
            generator = seeds.at("neighbour", number).generator()
            made = [swapped_words(text, pool, self.swaps, generator) for text in texts]
            out[:, number] = mean_known(model.token_log_probabilities(byte_rows(made, features.shape[1])))
        return out


def swapped_tokens(
    text: Tokens, likely: Tokens, logs: NDArray[np.float64], share: float, generator: np.random.Generator
) -> Tokens:
    """`text` with max(1, share x places) of its tokens after the first exchanged. `likely` and `logs` (places or more,
    candidates) are likely tokens at each place; the text's own is never drawn."""
    out = text.copy()
    places = 1 + generator.permutation(len(text) - 1)[: max(1, round(share * (len(text) - 1)))]
    for place in places:
        others = likely[place] != text[place]
        weights = np.exp(logs[place][others] - logs[place][others].max())
        out[place] = generator.choice(likely[place][others], p=weights / weights.sum())
    return out


def swapped_words(text: str, pool: list[str], share: float, generator: np.random.Generator) -> str:
    """`text` with max(1, share x words) of its words exchanged for ones drawn from `pool`; without words as it is."""
    words = list(_WORD.finditer(text))
    chosen = generator.permutation(len(words))[: max(1, round(share * len(words)))]
    new = {int(k): pool[int(generator.integers(len(pool)))] for k in chosen}
    pieces, end = [], 0
    for k, word in enumerate(words):
        pieces += [text[end : word.start()], new.get(k, word.group())]
        end = word.end()
    return "".join([*pieces, text[end:]])
