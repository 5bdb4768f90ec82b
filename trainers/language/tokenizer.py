"""Tokens of byte rows: bytes themselves, or a byte-level BPE fitted on public text only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError, IncompatibleError
from ..data.text import PADDING, TOKENS

TOKENIZER_FILE = "tokenizer.json"
PAD = "<pad>"
FILLERS = (PAD, "[PAD]", "<|endoftext|>", "</s>", "<|end_of_text|>", "<unk>")
"""Tokens that may fill up rows: the first that a tokenizer knows is used."""
MASKS = ("[MASK]", "<mask>")


class Tokenizer(Protocol):
    """Text to token ids in [0, vocabulary) and back; `padding` fills up short rows, `mask` hides a token."""

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""

    @property
    def padding(self) -> int:
        """The id that fills up."""

    @property
    def mask(self) -> int:
        """The id that hides a token; a tokenizer without one gives `vocabulary`, one past its own."""

    def encode(self, data: bytes) -> list[int]:
        """Token ids of UTF-8 text."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids; padding is left out."""


@dataclass(frozen=True, slots=True)
class ByteTokenizer:
    """One token a byte. Nothing is fitted."""

    vocabulary: int = TOKENS
    padding: int = PADDING
    mask: int = TOKENS

    def encode(self, data: bytes) -> list[int]:
        """As in `Tokenizer`."""
        return list(data)

    def decode(self, tokens: Sequence[int]) -> str:
        """As in `Tokenizer`."""
        return bytes(t for t in tokens if t < PADDING).decode("utf-8", "replace")


class SubwordTokenizer:
    """A `tokenizers.Tokenizer` of the Hugging Face library. Padding is its pad token, else its end of text (GPT-2 and
    Llama have no other), else one id past its vocabulary."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        inner.no_truncation()
        inner.no_padding()
        size = inner.get_vocab_size()
        pad = _first_known(inner, FILLERS)
        self.padding: int = size if pad is None else pad
        self.vocabulary: int = size + (pad is None)
        mask = _first_known(inner, MASKS)
        self.mask: int = self.vocabulary if mask is None else mask

    def encode(self, data: bytes) -> list[int]:
        """As in `Tokenizer`."""
        return list(self.inner.encode(data.decode("utf-8", "replace"), add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """As in `Tokenizer`."""
        return str(self.inner.decode([t for t in tokens if t != self.padding]))

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`."""
        self.inner.save(str(folder / TOKENIZER_FILE))


def _first_known(inner: Any, tokens: Sequence[str]) -> int | None:
    found = (inner.token_to_id(token) for token in tokens)
    return next((number for number in found if number is not None), None)


def fit_bpe(texts: Sequence[str], vocabulary: int) -> SubwordTokenizer:
    """A byte-level BPE of `vocabulary` tokens, fitted on `texts`, which must be public. Digits stay single tokens, so
    that a text's tokens are those of its beginning followed by those of a number at its end."""
    from tokenizers import Tokenizer as Inner
    from tokenizers import decoders, models, pre_tokenizers, trainers

    inner: Any = Inner(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocabulary <= len(alphabet):
        raise ConfigError(f"language: vocabulary must be above {len(alphabet)} for a BPE tokenizer, got {vocabulary}")
    inner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=[PAD], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return SubwordTokenizer(inner)


def read_tokenizer(folder: Path) -> SubwordTokenizer:
    """The tokenizer of a model folder. Raises `ConfigError` where there is none."""
    from tokenizers import Tokenizer as Inner

    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise ConfigError(f"{path} is missing: a pretrained language model needs its tokenizer beside it")
    return SubwordTokenizer(Inner.from_file(str(path)))


def token_rows(features: NDArray[Any], tokenizer: Tokenizer, length: int) -> NDArray[np.int64]:
    """Byte rows (records, bytes) as token rows (records, length), cut and padded. `IncompatibleError` for other
    features."""
    if features.dtype != np.int64 or features.ndim != 2:
        raise IncompatibleError(
            f"a language trainer reads rows of bytes, got {features.dtype} features of shape {features.shape}: set "
            "data.text_encoding = 'bytes'"
        )
    if isinstance(tokenizer, ByteTokenizer):
        return features[:, :length]
    out = np.full((len(features), length), tokenizer.padding, np.int64)
    for row, given in zip(out, features, strict=True):
        tokens = tokenizer.encode(bytes(given[given < PADDING].astype(np.uint8)))[:length]
        row[: len(tokens)] = tokens
    return out
