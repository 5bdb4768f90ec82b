"""Texts to token ids by a tokenizer that is public: a folder's `tokenizer.json`, nothing fitted here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError, PrerequisiteError
from ...audit.store import file_digest
from ..sources import public_folder

TOKENIZER_FILE = "tokenizer.json"
PADDING_NAMES = ("[PAD]", "<pad>", "<|pad|>")


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """A tokenizer of the Hugging Face library `tokenizers`. Ids lie in [0, `vocabulary`); `padding` fills short rows,
    an id of its own past the tokenizer's where that knows none. `digest` is that of the file."""

    inner: Any
    padding: int
    vocabulary: int
    digest: str

    def rows(self, texts: Sequence[str], length: int) -> NDArray[np.int64]:
        """Token ids (texts, length) with the tokenizer's own special tokens, cut and filled up on the right."""
        self.inner.enable_truncation(length)
        out = np.full((len(texts), length), self.padding, np.int64)
        for row, encoding in zip(out, self.inner.encode_batch(list(texts)), strict=True):
            row[: len(encoding.ids)] = encoding.ids
        return out


@lru_cache(maxsize=4)
def text_tokenizer(source: str, revision: str | None, what: str = "data.tokenizer") -> TextTokenizer:
    """The tokenizer that `source` names (see `public_folder`); `what` is the configuration key, for messages.

    Raises `PrerequisiteError` for a folder without `tokenizer.json`, `ConfigError` for one that cannot be read.
    """
    path = public_folder(source, revision, what=what, patterns=[TOKENIZER_FILE]) / TOKENIZER_FILE
    if not path.is_file():
        raise PrerequisiteError(f"{what} = {source!r}: {path.parent} has no {TOKENIZER_FILE}")
    return read_tokenizer(path, what)


def read_tokenizer(path: Path, what: str) -> TextTokenizer:
    """The tokenizer in a `tokenizer.json`, its own padding and truncation set aside."""
    from tokenizers import Tokenizer

    try:
        inner: Any = Tokenizer.from_file(str(path))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{what}: {path} is no tokenizer of the library 'tokenizers': {reason}") from None
    own = inner.padding
    named = [inner.token_to_id(name) for name in PADDING_NAMES]
    known = [int(own["pad_id"])] if own else [i for i in named if i is not None]
    # Not the number of entries: added tokens may leave gaps.
    highest = max(inner.get_vocab(with_added_tokens=True).values())
    inner.no_padding()
    inner.no_truncation()
    padding = known[0] if known else highest + 1
    return TextTokenizer(inner, padding, max(highest, padding) + 1, file_digest(path))
