"""What an observer of a training keeps: exactly what its view shows, in arrays on disk."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import StaleArtifactError
from .layout import Buffers
from .protection import View
from .server import Floats

RECORD = "transcript.json"

CONTENTS: Mapping[View, tuple[str, ...]] = {
    "updates": ("models", "buffers", "updates", "update_rounds", "update_clients", "update_examples"),
    "sum": ("models", "buffers", "sums", "answered"),
    "global-models": ("models", "buffers"),
    "final-model": (),
}
"""The arrays each view holds. Servers see the global models too, since they make them."""


@dataclass(slots=True)
class ViewRecorder:
    """An `Observer` that writes float32 arrays row by row: memory stays bounded whatever the number of rounds.

    `models` (rounds + 1, dimension) and `buffers` (rounds + 1, values); `sums` (rounds, dimension), before central
    noise, and `answered` bool (rounds, clients); `updates` (sent, dimension) as they left the client, with the round,
    the client's position and (where means are weighted) its number of examples of each. Files go to `folder`, or to
    disk space that vanishes with the recorder.
    """

    view: View
    rounds: int
    dimension: int
    clients: Sequence[str]
    sends: int
    buffer_values: int = 0
    weighted: bool = False
    folder: Path | None = None
    _arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    _models: int = 0
    _sent: int = 0

    def __post_init__(self) -> None:
        shapes: dict[str, tuple[tuple[int, ...], str]] = {
            "models": ((self.rounds + 1, self.dimension), "<f4"),
            "buffers": ((self.rounds + 1, self.buffer_values), "<f4"),
            "sums": ((self.rounds, self.dimension), "<f4"),
            "answered": ((self.rounds, len(self.clients)), "|b1"),
            "updates": ((self.sends, self.dimension), "<f4"),
            "update_rounds": ((self.sends,), "<i4"),
            "update_clients": ((self.sends,), "<i4"),
            "update_examples": ((self.sends if self.weighted else 0,), "<i8"),
        }
        for name in CONTENTS[self.view]:
            shape, kind = shapes[name]
            if 0 not in shape:
                self._arrays[name] = _mapped(shape, kind, None if self.folder is None else self.folder / f"{name}.npy")

    def rewind(self, rounds_done: int, sent: int) -> None:
        """Go on after a resumed training: the first `rounds_done` rounds are on disk already."""
        self._models, self._sent = rounds_done + 1, sent

    @property
    def sent_so_far(self) -> int:
        """Updates recorded."""
        return self._sent

    def model(self, weights: Floats, buffers: Buffers) -> None:
        """As in `Observer`."""
        if "models" in self._arrays:
            self._arrays["models"][self._models] = weights
        if "buffers" in self._arrays:
            flat = [np.ravel(np.asarray(b, np.float32)) for b in buffers.values()]
            self._arrays["buffers"][self._models] = np.concatenate(flat)
        self._models += 1

    def sent(self, round_number: int, clients: NDArray[np.int64], updates: Floats, examples: NDArray[np.int64]) -> None:
        """As in `Observer`."""
        here = slice(self._sent, self._sent + len(clients))
        self._sent += len(clients)
        values = {
            "updates": updates,
            "update_rounds": round_number,
            "update_clients": clients,
            "update_examples": examples,
        }
        for name, value in values.items():
            if name in self._arrays:
                self._arrays[name][here] = value

    def canaries_sent(self, round_number: int, canaries: NDArray[np.int64], updates: Floats, clip: float) -> None:
        """As in `Observer`; this recorder is for trainings without canaries."""

    def took_part(self, round_number: int, canaries: NDArray[np.int64]) -> None:
        """As in `Observer`."""

    def total(self, round_number: int, total: Floats, clip: float, clients: NDArray[np.int64]) -> None:
        """As in `Observer`."""
        del clip
        if "sums" in self._arrays:
            self._arrays["sums"][round_number] = total
            self._arrays["answered"][round_number, clients] = True

    def released(self, round_number: int, total: Floats, clip: float) -> None:
        """As in `Observer`; it follows from `models`."""

    def transcript(self) -> dict[str, Any]:
        """`view`, `clients` (names, where the view shows who is who) and the arrays."""
        arrays = {k: v[: self._sent] if k.startswith("update") else v for k, v in self._arrays.items()}
        shown = tuple(self.clients) if self.view in ("updates", "sum") else ()
        return {"view": self.view, "clients": shown, **arrays}


def save_transcript(transcript: Mapping[str, Any], folder: Path) -> None:
    """Write a transcript into the existing `folder`: one npy per array, row by row, and `transcript.json`."""
    names = [k for k in transcript if k not in ("view", "clients")]
    for name in names:
        source = transcript[name]
        target = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=source.dtype, shape=source.shape)
        for start in range(0, len(source), 256):
            target[start : start + 256] = source[start : start + 256]
        target.flush()
    record = {"view": transcript["view"], "clients": list(transcript["clients"]), "arrays": names}
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def load_transcript(folder: Path) -> dict[str, Any] | None:
    """What `save_transcript` wrote, memory-mapped; None where there is none."""
    if not (folder / RECORD).exists():
        return None
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        arrays = {n: np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in record["arrays"]}
    except (OSError, ValueError, KeyError) as error:
        raise StaleArtifactError(
            f"{folder / RECORD} cannot be read ({error}): remove the folder and train again"
        ) from None
    return {"view": record["view"], "clients": tuple(record["clients"]), **arrays}


def _mapped(shape: tuple[int, ...], kind: str, path: Path | None) -> NDArray[Any]:
    """A zeroed array on disk. Without a path the file has no name, and its space is freed with the array."""
    if path is None:
        with tempfile.TemporaryFile() as file:
            return np.memmap(file, dtype=kind, mode="w+", shape=shape)
    if path.exists():
        held = np.load(path, mmap_mode="r+", allow_pickle=False)
        if held.shape == shape and held.dtype == np.dtype(kind):
            return held  # type: ignore[no-any-return]
    path.parent.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(kind), shape=shape)
