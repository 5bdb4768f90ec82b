"""Public text: what a tokenizer and a public model may be fitted on."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ...audit.errors import ConfigError
from ...audit.registry import DATASETS
from ..data import DataSpec, Texts, load_table


@lru_cache(maxsize=4)
def public_texts(source: str, length: int) -> tuple[str, ...]:
    """Windows of `length` characters of the registered data set or text file `source`."""
    path = Path(source).expanduser()
    if source not in DATASETS.names() and path.is_file():
        text = path.read_text(encoding="utf-8")
        return tuple(text[i : i + length] for i in range(0, len(text), length))
    table = load_table(DataSpec(seed=0, name=source, text_length=length))
    if not isinstance(table.content, Texts):
        raise ConfigError(f"language: public = {source!r} is no text")
    return tuple(table.content.values)
