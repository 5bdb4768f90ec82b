"""A causal language model that exists, from a folder or the Hub, behind the text interface."""

from __future__ import annotations

from typing import cast

from ...audit.errors import ConfigError
from .generation import context_of, vocabulary_of
from .model import CausalModel
from .pretrained import pretrained_folder, read_pretrained
from .target import LanguageTarget
from .tokenizer import TOKENIZER_FILE, ByteTokenizer, Tokenizer, read_tokenizer

CAUSAL = ("LMHeadModel", "ForCausalLM")
"""Endings of the architectures that predict the next token."""


def load_language_target(source: str, revision: str | None, *, length: int | None, device: str) -> LanguageTarget:
    """The model in `source`; rows are cut at `length` tokens, or at what the model reads if that is less or None.

    Without a `tokenizer.json` it reads bytes. Raises `ConfigError` for a tokenizer with more tokens than the model.
    """
    folder = pretrained_folder(source, revision)
    model = cast(CausalModel, read_pretrained(folder))
    whole = (folder / TOKENIZER_FILE).is_file()
    tokenizer: Tokenizer = read_tokenizer(folder) if whole else ByteTokenizer()
    known, read = vocabulary_of(model.inner), context_of(model.inner)
    # Padding may be one id past the vocabulary: it is never read.
    if tokenizer.vocabulary > known + 1:
        raise ConfigError(
            f"target.huggingface: {source!r} knows {known} tokens, its tokenizer makes {tokenizer.vocabulary}: put the "
            f"model's own {TOKENIZER_FILE} beside it"
        )
    return LanguageTarget(model, tokenizer, min(read, length or read), device)
