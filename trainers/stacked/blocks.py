"""Batches of many models drawn ahead and laid side by side, padded to the widest of each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..sampling import Batches, BatchStream

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CELLS = 1 << 18
"""Positions drawn ahead, all models together."""


WIDTH_STEP = 8
"""Padded batches are multiples of this: matrix products of other widths take up to a third longer."""


@dataclass(slots=True)
class Block:
    """Consecutive steps: `positions` (steps, models, width) on the device, real rows first; `sizes` (steps, models)."""

    positions: Tensor
    weights: Tensor | None
    sizes: NDArray[np.int64]

    def step(self, number: int) -> tuple[Tensor, Tensor | None, list[int]]:
        """Positions and weights (models, width) of one step, no wider than it needs, and its batch sizes."""
        sizes = self.sizes[number]
        if self.weights is None:
            return self.positions[number], None, sizes.tolist()
        # Never nothing: an empty step is a step too.
        width = -(-max(1, int(sizes.max())) // WIDTH_STEP) * WIDTH_STEP
        return self.positions[number, :, :width], self.weights[number, :, :width], sizes.tolist()

    def keep(self, models: NDArray[np.int64]) -> None:
        """Go on with the models at these positions only."""
        import torch

        index = torch.from_numpy(models).to(self.positions.device)
        self.positions = self.positions[:, index]
        self.weights = None if self.weights is None else self.weights[:, index]
        self.sizes = self.sizes[:, models]


def block_steps(models: int, batch_size: int) -> int:
    """How many steps to draw ahead."""
    return max(1, CELLS // (models * batch_size))


def next_block(streams: Sequence[BatchStream], steps: int, *, dtype: torch.dtype, device: str) -> Block:
    """The next `steps` steps of every stream."""
    import torch

    taken = [stream.take(steps) for stream in streams]
    sizes = np.stack([batches.sizes for batches in taken], axis=1)
    width = max(1, int(sizes.max()))
    if (sizes != width).any():
        width = -(-width // WIDTH_STEP) * WIDTH_STEP
    positions = np.zeros((steps, len(streams), width), np.int64)
    for model, batches in enumerate(taken):
        positions[_steps_and_columns(batches, model)] = batches.positions
    weights = None
    if (sizes != width).any():
        weights = torch.from_numpy(np.arange(width) < sizes[:, :, None]).to(device, dtype)
    return Block(torch.from_numpy(positions).to(device), weights, sizes)


def _steps_and_columns(batches: Batches, model: int) -> tuple[NDArray[np.int64], int, NDArray[np.int64]]:
    steps = np.repeat(np.arange(len(batches.sizes)), batches.sizes)
    starts = np.cumsum(batches.sizes) - batches.sizes
    return steps, model, np.arange(len(batches.positions)) - starts[steps]


def padded_rows(rows: Sequence[NDArray[np.int64]], chunk: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Ragged rows of each model as (models, at most `chunk`) positions with a mask of the real ones, piece by piece."""
    for start in range(0, max(map(len, rows), default=0), chunk):
        parts = [r[start : start + chunk] for r in rows]
        width = max(map(len, parts))
        positions = np.zeros((len(rows), width), np.int64)
        real = np.arange(width) < np.array([len(p) for p in parts])[:, None]
        positions[real] = np.concatenate(parts)
        yield positions, real
