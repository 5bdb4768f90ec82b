"""Short English sequences that come with Python, and a bigram model of them: the attacker's prior on language."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....audit.errors import ConfigError
from ....audit.seeds import Seeds


@dataclass(frozen=True, slots=True)
class Prose:
    """`words` (vocabulary,), most frequent first; token sequences (n, length) of `private` and `public` paragraphs."""

    words: tuple[str, ...]
    private: NDArray[np.int64]
    public: NDArray[np.int64]

    def text(self, tokens: NDArray[np.int64]) -> str:
        """A sequence in words, `?` for what was not found."""
        return " ".join(self.words[t] if t >= 0 else "?" for t in tokens)


def load_prose(vocabulary: int, length: int, *, seeds: Seeds) -> Prose:
    """Runs of `length` known words from Python's own manual (`pydoc_data.topics`), whole topics private or public.

    `ConfigError` where fewer than 50 sequences are left on either side.
    """
    from pydoc_data.topics import topics

    split = {name: [w.lower() for w in text.split() if w.isalpha()] for name, text in sorted(topics.items())}
    counts = Counter(word for found in split.values() for word in found)
    words = tuple(word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:vocabulary])
    number = {word: k for k, word in enumerate(words)}
    order = seeds.generator().permutation(len(split))
    sides: tuple[list[list[int]], list[list[int]]] = ([], [])
    for place, name in enumerate(split):
        sides[int(order[place] % 2)].extend(_runs([number.get(w, -1) for w in split[name]], length))
    if min(map(len, sides)) < 50:
        raise ConfigError(f"only {min(map(len, sides))} runs of {length} words from {vocabulary}: take shorter ones")
    private, public = (np.array(side, np.int64) for side in sides)
    return Prose(words, private, public)


def _runs(tokens: list[int], length: int) -> list[list[int]]:
    """Runs of `length` neighbouring known tokens that do not overlap."""
    found, start = [], 0
    while start + length <= len(tokens):
        run = tokens[start : start + length]
        unknown = [k for k, token in enumerate(run) if token < 0]
        if unknown:
            start += unknown[-1] + 1
        else:
            found.append(run)
            start += length
    return found


@dataclass(frozen=True, slots=True)
class Bigrams:
    """log P(next | word), (vocabulary, vocabulary), from counts with 0.1 added.

    Its negative mean over the steps of a sequence is the logarithm of the perplexity.
    """

    log_probability: NDArray[np.float64]

    def surprise(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean negative log probability (n,) of the steps of sequences (n, length)."""
        if tokens.shape[1] < 2:
            return np.zeros(len(tokens))
        steps: NDArray[np.float64] = self.log_probability[tokens[:, :-1], tokens[:, 1:]]
        mean: NDArray[np.float64] = -steps.mean(axis=1)
        return mean


def learn_bigrams(sequences: NDArray[np.int64], vocabulary: int) -> Bigrams:
    """Counted on public sequences (n, length)."""
    counts = np.full((vocabulary, vocabulary), 0.1)
    np.add.at(counts, (sequences[:, :-1].ravel(), sequences[:, 1:].ravel()), 1.0)
    return Bigrams(np.log(counts / counts.sum(axis=1, keepdims=True)))
