"""Interrupted training that resumes bit for bit: safetensors renamed into place, and a count of steps really run."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..audit.errors import StaleArtifactError

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

SECONDS_BETWEEN = 15.0
"""A checkpoint is written at most this often; a kill costs at most this much work."""


@dataclass(frozen=True, slots=True)
class State:
    """What a training loop needs to go on: tensors by name, and plain JSON values."""

    tensors: Tensors
    values: dict[str, Any]


@dataclass(slots=True)
class Checkpoint:
    """`folder/<name>.safetensors` and `folder/steps.json`. With `folder` None every call does nothing.

    `identity` says what is being trained (see `recipe.identity`). The state of a finished training stays until the
    caller, having stored the model, removes the folder: a kill in between costs nothing. `steps.json` counts every
    optimizer step of every model that was executed, those lost to a kill included.
    """

    folder: Path | None
    identity: str
    name: str = "state"
    _written: float = field(default_factory=time.monotonic)
    _counter: int | None = None
    _executed: int = 0

    def read(self) -> State | None:
        """The newest state, or None where there is none. Raises `StaleArtifactError` for another training's."""
        if self.folder is None or not self._path.exists():
            return None
        from safetensors import safe_open

        with safe_open(self._path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != self.identity:
                raise StaleArtifactError(f"checkpoint {self._path} belongs to another training: remove its folder")
            # Cloned: tensors in the mapped file need not be aligned as fresh ones, and kernels may round by alignment.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        return State(tensors, json.loads(metadata["values"]))

    def due(self) -> bool:
        """Whether enough time has passed since the last write."""
        return self.folder is not None and time.monotonic() - self._written >= SECONDS_BETWEEN

    def write(self, state: State) -> None:
        """Replace the stored state. A kill at any moment leaves the old or the new one, never a mixture."""
        if self.folder is None:
            return
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        metadata = {"identity": self.identity, "values": json.dumps(state.values)}
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in state.tensors.items()}, partial, metadata)
        partial.replace(self._path)
        self._written = time.monotonic()

    def count(self, steps: int) -> None:
        """Add `steps` executed steps to `steps.json`. Cheap enough for every step: one write to an open file."""
        if self.folder is None:
            return
        if self._counter is None:
            self._open_counter(self.folder)
        assert self._counter is not None
        self._executed += steps
        # Fixed width, so that overwriting in place never leaves a digit of an older number behind.
        os.pwrite(self._counter, b'{"executed": %15d}\n' % self._executed, 0)

    def close(self) -> None:
        """Close the counter file."""
        if self._counter is not None:
            os.close(self._counter)
            self._counter = None

    @property
    def _path(self) -> Path:
        assert self.folder is not None
        return self.folder / f"{self.name}.safetensors"

    def _open_counter(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._executed = executed_steps(folder)
        self._counter = os.open(folder / "steps.json", os.O_RDWR | os.O_CREAT, 0o644)


def executed_steps(folder: Path) -> int:
    """Optimizer steps executed under this checkpoint folder so far, over all attempts and all its models."""
    path = folder / "steps.json"
    if not path.exists():
        return 0
    text = path.read_text(encoding="utf-8")
    return int(json.loads(text)["executed"]) if text.strip() else 0
