"""Templated secrets: sentences with a number drawn uniformly, each slot filled or left empty by its own coin."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.seeds import Seeds
from ...audit.text import byte_rows
from ...audit.types import BoolArray, Rows

CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


@dataclass(frozen=True, slots=True)
class Slot:
    """One place for a secret: the text before the number, the number as digits, the text after it, how often the
    sentence is inserted if its coin says so, and the coin."""

    prefix: str
    secret: str
    suffix: str
    repetitions: int
    filled: bool

    @property
    def text(self) -> str:
        """The whole sentence."""
        return self.prefix + self.secret + self.suffix


def split_template(template: str) -> tuple[str, str]:
    """Text before and after `{secret}`. Raises `ConfigError` for a template without `{name}` before `{secret}`."""
    before, found, after = template.partition("{secret}")
    if not found or "{name}" not in before or "{" in before.replace("{name}", "") + after:
        raise ConfigError(
            f"template must hold {{name}} and then {{secret}}, each once, and no other braces; got {template!r}"
        )
    return before, after


def owner(number: int) -> str:
    """A pronounceable name of three syllables, another for every number below 343 000."""
    syllables = [c + v for c in CONSONANTS for v in VOWELS]
    # A stride coprime to the count, so that neighbours do not share their beginning.
    place = number * 20_011 % len(syllables) ** 3
    name = ""
    for _ in range(3):
        place, which = divmod(place, len(syllables))
        name += syllables[which]
    return name.capitalize()


def draw_slots(
    template: str, digits: tuple[int, ...], repetitions: tuple[int, ...], slots: int, fill: float, *, seeds: Seeds
) -> list[Slot]:
    """`slots` slots for each number of digits and each repetition count. Coins and secrets come from streams of their
    own, and the sentence of a slot does not depend on its coin."""
    before, after = split_template(template)
    out: list[Slot] = []
    for size, count in itertools.product(digits, repetitions):
        secrets = seeds.at("secrets", size, count).generator().integers(10**size, size=slots)
        coins = seeds.at("coins", size, count).generator().random(slots) < fill
        for secret, coin in zip(secrets, coins, strict=True):
            prefix = before.replace("{name}", owner(len(out)))
            out.append(Slot(prefix, f"{secret:0{size}d}", after, count, bool(coin)))
    return out


def copies(slots: list[Slot]) -> NDArray[np.int64]:
    """The slot of every copy that is inserted, in the order in which `with_secrets` inserts them."""
    times = [slot.repetitions if slot.filled else 0 for slot in slots]
    return np.repeat(np.arange(len(slots)), times)


def with_secrets(data: Rows, inside: BoolArray, slots: list[Slot]) -> tuple[Rows, BoolArray]:
    """The rows followed by every copy of every filled slot, and who is trained on: the real rows as before, the copies
    all. Raises `IncompatibleError` where the rows are no byte rows or too short for a sentence."""
    if data.features.dtype != np.int64 or data.features.ndim != 2:
        raise IncompatibleError(
            f"secret-exposure inserts sentences into rows of bytes, got {data.features.dtype} features; set "
            "data.text_encoding = 'bytes'"
        )
    width = data.features.shape[1]
    longest = max(len(slot.text.encode()) for slot in slots)
    if longest > width:
        raise IncompatibleError(f"secret-exposure: a sentence of {longest} bytes does not fit rows of {width} bytes")
    chosen = [(n, c) for n, slot in enumerate(slots) if slot.filled for c in range(slot.repetitions)]
    features: NDArray[np.int64] = byte_rows([slots[n].text for n in copies(slots)], width)
    whole = Rows(
        np.concatenate([data.features, features]),
        np.concatenate([data.labels, np.zeros(len(chosen), np.int64)]),
        (*data.records, *(f"secret-{n}-{c}" for n, c in chosen)),
        data.classes,
        data.name,
    )
    return whole, np.concatenate([inside, np.ones(len(chosen), dtype=bool)])
