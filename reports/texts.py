"""Every sentence of the report comes from one catalogue file a language: `texts/<language>.toml`.

A translation is a file. Keys it lacks are taken from English, and a test names them.
"""

from __future__ import annotations

import functools
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..audit.errors import ConfigError
from ..audit.registry import nearest

FOLDER = Path(__file__).with_name("texts")
ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class Texts:
    """A catalogue: `texts("claim.title", name="x")` is the sentence with its placeholders filled."""

    language: str
    sentences: Mapping[str, str]
    lists: Mapping[str, tuple[str, ...]]

    def __call__(self, key: str, **values: str) -> str:
        """The sentence called `key`. A missing key or value is a programming error and raises `KeyError`."""
        return self.sentences[key].format_map(values)

    def find(self, key: str) -> str | None:
        """The sentence called `key`, or None: for keys made from data, such as a reason code."""
        return self.sentences.get(key)

    def many(self, key: str) -> tuple[str, ...]:
        """The list of sentences called `key`, empty when there is none."""
        return self.lists.get(key, ())


def languages() -> list[str]:
    """Languages with a catalogue."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


@functools.cache
def load_texts(language: str = ENGLISH) -> Texts:
    """The catalogue of `language`, completed from English. Unknown language: `ConfigError`."""
    if language not in languages():
        raise ConfigError(f"language: no catalogue for {language!r}{nearest(language, languages())}")
    sentences: dict[str, str] = {}
    lists: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys((ENGLISH, language)):
        found = read_catalogue(name)
        sentences.update({key: text for key, text in found.items() if isinstance(text, str)})
        lists.update({key: tuple(text) for key, text in found.items() if isinstance(text, list)})
    return Texts(language, sentences, lists)


def read_catalogue(language: str) -> dict[str, str | list[str]]:
    """One file as `{"section.key": sentence}`, nothing filled in from English."""
    with (FOLDER / f"{language}.toml").open("rb") as file:
        return dict(_flat(tomllib.load(file), ""))


def placeholders(sentence: str) -> set[str]:
    """Names of the values that a sentence needs."""
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def _flat(tree: Mapping[str, Any], prefix: str) -> list[tuple[str, str | list[str]]]:
    out: list[tuple[str, str | list[str]]] = []
    for key, value in tree.items():
        out += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return out
