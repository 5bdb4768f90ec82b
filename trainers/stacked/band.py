"""A convolution on small images, row by row: each output row is one matrix product with a band of input rows.

Images are held (models, height * width * channels, batch), rows first and channels last, so that the rows under a
kernel are one contiguous band. All output rows share one matrix: only along the width do weights repeat, so the
product costs width / kernel width times the arithmetic of the convolution, and nothing is copied into patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

LARGEST_WASTE = 4.0
"""Image width over kernel width up to which this pays."""


@dataclass(frozen=True, slots=True)
class Row:
    """One output row: `outputs` among the layer's numbers, the `inputs` it sees, their `columns` of the band matrix."""

    outputs: slice
    inputs: slice
    columns: slice


@dataclass(frozen=True, slots=True)
class Band:
    """The band matrix (outputs of a row, kernel rows * width * channels) of a convolution, and gradients back.

    `expand` says which weight each entry is, `inside` whether it is one at all and not 0; `fold` (output columns,
    weights) at which entries each weight appears, `seen` whether that column sees it. `patches` (positions, taps) are
    the numbers of the input under the kernel, `real` is 0 for those outside the image; `twice` (pairs) is 1 for a
    position paired with itself and 2 for others, in the order of `pairs_of`. Shapes are (channels, height, width).
    """

    output_shape: tuple[int, int, int]
    weights: int
    shape: tuple[int, int]
    rows: tuple[Row, ...]
    expand: Tensor
    inside: Tensor
    fold: Tensor
    seen: Tensor
    patches: Tensor
    real: Tensor
    twice: Tensor

    @property
    def pairs(self) -> int:
        """Pairs of output positions, those of a position with itself included."""
        return len(self.twice)

    @property
    def few_positions(self) -> bool:
        """Whether norms of examples' gradients are cheaper from pairs of positions than from the gradients, which would
        be written and read besides."""
        outputs, taps = self.output_shape[0], self.patches.shape[1]
        return self.pairs * (outputs + taps) <= 4 * len(self.patches) * outputs * taps

    def matrix(self, weight: Tensor, out: Tensor) -> Tensor:
        """Band matrices (models, *shape) on the memory `out`."""
        import torch

        torch.index_select(weight.flatten(1), 1, self.expand, out=out)
        return out.mul_(self.inside).view(len(weight), *self.shape)

    def folded(self, gradient: Tensor) -> Tensor:
        """Weight gradients (models, weights) of band gradients (models, *shape)."""
        gathered = gradient.flatten(1).index_select(1, self.fold).view(len(gradient), *self.seen.shape)
        return gathered.mul_(self.seen).sum(1)


def band_of(layer: nn.Conv2d, input_shape: tuple[int, int, int], device: str) -> Band | None:
    """The band of `layer` on images of this shape, or None where it does not pay or is not of the plain kind."""
    import torch

    if isinstance(layer.padding, str) or layer.groups != 1 or layer.dilation != (1, 1) or layer.bias is None:
        return None
    channels, height, width = input_shape
    kernel_height, kernel_width = layer.kernel_size
    if layer.padding_mode != "zeros" or width > LARGEST_WASTE * kernel_width:
        return None
    columns, inside = _taps(width, kernel_width, layer.stride[1], int(layer.padding[1]))
    rows, rows_inside = _taps(height, kernel_height, layer.stride[0], int(layer.padding[0]))
    if not rows_inside.any(axis=1).all():
        return None
    shape = (len(columns) * layer.out_channels, kernel_height * width * channels)
    entries = _entries(columns, layer, channels, width)
    seen = np.broadcast_to(inside[:, None, None, None, :], entries.shape).reshape(len(columns), -1)
    fold = np.where(seen, entries.reshape(seen.shape), 0)
    expand, filled = np.zeros(shape[0] * shape[1], np.int64), np.zeros(shape[0] * shape[1], np.bool_)
    expand[fold[seen]] = np.broadcast_to(np.arange(fold.shape[1]), fold.shape)[seen]
    filled[fold[seen]] = True
    patches, real = _patches(rows, columns, rows_inside, inside, channels, width)
    first, second = pairs_of(len(patches))
    return Band(
        (layer.out_channels, len(rows), len(columns)),
        fold.shape[1],
        shape,
        tuple(
            _row(number, taps[real], int(real.argmax()), shape[0], width * channels)
            for number, (taps, real) in enumerate(zip(rows, rows_inside, strict=True))
        ),
        torch.from_numpy(expand).to(device),
        torch.from_numpy(filled).to(device, layer.weight.dtype),
        torch.from_numpy(fold.flatten()).to(device),
        torch.from_numpy(seen.copy()).to(device, layer.weight.dtype),
        torch.from_numpy(patches).to(device),
        torch.from_numpy(real).to(device, layer.weight.dtype),
        torch.from_numpy(np.where(first == second, 1.0, 2.0)).to(device, layer.weight.dtype),
    )


def pairs_of(positions: int) -> tuple[np.ndarray, np.ndarray]:
    """The first and second member of every unordered pair of positions, by distance: (0, 0), (1, 1), ..., (0, 1)..."""
    first = np.concatenate([np.arange(positions - apart) for apart in range(positions)])
    second = np.concatenate([np.arange(apart, positions) for apart in range(positions)])
    return first, second


def _patches(
    rows: np.ndarray, columns: np.ndarray, rows_inside: np.ndarray, inside: np.ndarray, channels: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions in a rows-first image (output positions, taps), and which of them are in it (others are 0)."""
    shape = (len(rows), len(columns), rows.shape[1], columns.shape[1], channels)
    seen = np.broadcast_to(rows_inside[:, None, :, None, None] & inside[None, :, None, :, None], shape)
    cells = (rows[:, None, :, None, None] * width + columns[None, :, None, :, None]) * channels + np.arange(channels)
    places = shape[0] * shape[1]
    return np.where(seen, cells, 0).reshape(places, -1), seen.reshape(places, -1).copy()


def _entries(columns: np.ndarray, layer: nn.Conv2d, channels: int, width: int) -> np.ndarray:
    """Position in the band matrix of each weight at each output column: axes column, output channel, input channel,
    kernel row, kernel column. Band rows are (column, output channel), band columns (kernel row, x, input channel)."""
    kernel_height, outputs = layer.kernel_size[0], layer.out_channels
    target = np.arange(len(columns))[:, None] * outputs + np.arange(outputs)
    x = columns[:, None, None, None, :]
    source = (np.arange(kernel_height)[:, None] * width + x) * channels + np.arange(channels)[:, None, None]
    entries: np.ndarray = target[:, :, None, None, None] * (kernel_height * width * channels) + source
    return entries


def _row(number: int, taps: np.ndarray, skipped: int, outputs: int, stride: int) -> Row:
    """Output row `number`, seeing the input rows `taps` with the kernel's rows from `skipped` on."""
    first, count = int(taps[0]), len(taps)
    return Row(
        slice(number * outputs, (number + 1) * outputs),
        slice(first * stride, (first + count) * stride),
        slice(skipped * stride, (skipped + count) * stride),
    )


def _taps(size: int, kernel: int, stride: int, padding: int) -> tuple[np.ndarray, np.ndarray]:
    """Input coordinates (outputs, kernel) that each output reads along one axis, and which lie inside the image."""
    count = (size + 2 * padding - kernel) // stride + 1
    taps = np.arange(count)[:, None] * stride + np.arange(kernel) - padding
    return taps, (taps >= 0) & (taps < size)
