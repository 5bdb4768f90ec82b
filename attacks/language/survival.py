"""What a trainer's own defences leave of inserted secrets before anything is learned."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...audit.games import Measure
from ...audit.seeds import Seeds
from ...audit.text import TEXT_PADDING
from ...audit.types import BoolArray, Rows
from .secrets import Slot, copies

COUNTED = {
    "scrubbed": "values of kind {} removed",
    "randomised": "values of kind {} drawn anew",
    "rows_changed": "rows changed",
    "rows_dropped": "rows dropped as {} duplicates",
}
"""What the trainer's counts mean, by the beginning of their names."""


class TrainingText(Protocol):
    """Byte rows after a trainer's defences, which of them it trains on, and what the defences did."""

    @property
    def features(self) -> NDArray[np.int64]:
        """(records, bytes), in the order given."""

    @property
    def inside(self) -> BoolArray:
        """(records,)."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Counts by name."""


@runtime_checkable
class DefendedTrainer(Protocol):
    """A trainer that may change private text before it trains on it."""

    def defended(self, data: Rows, rows: BoolArray, *, seeds: Seeds) -> TrainingText | None:
        """What `fit` with the same arguments trains on; None where that is the text as it is."""


@dataclass(frozen=True, slots=True)
class Survival:
    """Copies of each slot that were inserted and that still hold the secret, (slots,), and the defences' counts."""

    inserted: NDArray[np.int64]
    surviving: NDArray[np.int64]
    removed: Mapping[str, float]

    def share(self, chosen: BoolArray) -> Measure:
        """Of the copies of the `chosen` slots, those that still hold their secret."""
        inserted, surviving = int(self.inserted[chosen].sum()), int(self.surviving[chosen].sum())
        if not inserted:
            return Measure(None, reason="no slot was filled")
        return Measure(surviving / inserted, n=inserted)

    def measures(self) -> dict[str, Measure]:
        """The defences' own counts."""
        return {name: Measure(count, unit="count", better=None) for name, count in self.removed.items()}

    def note(self) -> str:
        """In plain words: what was done, and what is left of the secrets."""
        done = [f"{count:.0f} {_meaning(name)}" for name, count in self.removed.items() if count]
        left, all_of_them = int(self.surviving.sum()), int(self.inserted.sum())
        what = ", ".join(done) or "nothing was removed"
        return (
            f"before training: {what}; of {all_of_them} inserted copies of secrets {left} still held their digits. "
            "Defences of this kind find what their patterns know and promise nothing about the rest."
        )


def _meaning(name: str) -> str:
    for beginning, words in COUNTED.items():
        if name.startswith(beginning):
            return words.format(name.removeprefix(beginning).strip("_"))
    return name.replace("_", " ")


def survival(trainer: Any, data: Rows, inside: BoolArray, slots: list[Slot], *, seeds: Seeds) -> Survival | None:
    """Look for every copy's digits in the text that `trainer` trains on, at the copy's own place: the last rows of
    `data`, as `with_secrets` puts them. None for a trainer without defences."""
    text = trainer.defended(data, inside, seeds=seeds) if isinstance(trainer, DefendedTrainer) else None
    if text is None:
        return None
    owners = copies(slots)
    first = len(data) - len(owners)
    surviving = np.zeros(len(slots), np.int64)
    for place, number in enumerate(owners, start=first):
        surviving[number] += bool(text.inside[place]) and holds(text.features[place], slots[number].secret)
    return Survival(np.bincount(owners, minlength=len(slots)), surviving, text.metrics)


def holds(row: NDArray[Any], secret: str) -> bool:
    """Whether the byte row has the digits of `secret` with no other digit beside them."""
    text = bytes(row[row < TEXT_PADDING].astype(np.uint8))
    return re.search(rb"(?<!\d)" + secret.encode() + rb"(?!\d)", text) is not None
