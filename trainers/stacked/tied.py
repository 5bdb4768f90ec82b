"""A convolution on small images as a linear layer whose weights are tied: one matrix product instead of many copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

LARGEST_IMAGE = 144
"""Positions of the input up to which this pays: the product costs positions / kernel cells times the convolution's."""


@dataclass(frozen=True, slots=True)
class Tie:
    """How the dense weights (outputs, inputs + 1) of a convolution follow from its own, and gradients back.

    The convolution's own numbers are stored as one row: weight, bias, and a zero for dense entries outside the kernel.
    `expand` (outputs * (inputs + 1)) says where in that row each dense entry comes from. `fold` (positions, own) says
    which dense entries each own number appears at; the index past the last dense entry stands for none.
    """

    outputs: int
    inputs: int
    weight_shape: tuple[int, ...]
    output_shape: tuple[int, int, int]
    expand: Tensor
    fold: Tensor

    @property
    def own(self) -> int:
        """Length of the stored row."""
        return self.fold.shape[1]

    def views(self, stored: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (models, ...) and bias (models, channels) in rows (models, own)."""
        bias = self.weight_shape[0]
        return stored[:, : -1 - bias].view(-1, *self.weight_shape), stored[:, -1 - bias : -1]

    def dense(self, stored: Tensor, out: Tensor) -> Tensor:
        """Dense weights (models, outputs, inputs + 1) of rows (models, own), on the memory of `out`."""
        import torch

        torch.index_select(stored, 1, self.expand, out=out)
        return out.view(len(stored), self.outputs, self.inputs + 1)

    def folded(self, dense_gradient: Tensor) -> Tensor:
        """Gradient rows (models, own) of dense gradients (models, outputs * (inputs + 1) + 1), the last entry 0."""
        gathered = dense_gradient.index_select(1, self.fold.flatten())
        return gathered.view(len(dense_gradient), *self.fold.shape).sum(1)


def tie(layer: nn.Conv2d, input_shape: tuple[int, int, int], device: str) -> Tie | None:
    """The tie of `layer` on images of this shape, or None where it does not pay or is not of the plain kind."""
    import torch

    if isinstance(layer.padding, str) or layer.groups != 1 or layer.dilation != (1, 1) or layer.bias is None:
        return None
    channels, height, width = input_shape
    if layer.padding_mode != "zeros" or height * width > LARGEST_IMAGE:
        return None
    rows, row_inside = _taps(height, layer.kernel_size[0], layer.stride[0], int(layer.padding[0]))
    columns, column_inside = _taps(width, layer.kernel_size[1], layer.stride[1], int(layer.padding[1]))
    # Axes: output row, output column, output channel, input channel, kernel row, kernel column.
    shape = (len(rows), len(columns), layer.out_channels, channels, rows.shape[1], columns.shape[1])
    inside = row_inside[:, None, None, None, :, None] & column_inside[None, :, None, None, None, :]
    r, c = rows[:, None, None, None, :, None], columns[None, :, None, None, None, :]
    source = np.arange(channels)[:, None, None] * (height * width) + r * width + c
    positions = shape[0] * shape[1]
    position = np.arange(positions).reshape(shape[0], shape[1], 1, 1, 1, 1)
    target = np.arange(layer.out_channels)[:, None, None, None] * positions + position
    outputs, inputs = layer.out_channels * positions, channels * height * width
    entry = np.broadcast_to(target * (inputs + 1) + source, shape)
    nowhere = outputs * (inputs + 1)
    weights = np.where(np.broadcast_to(inside, shape), entry, nowhere).reshape(positions, -1)
    biases = (np.arange(outputs).reshape(layer.out_channels, positions) * (inputs + 1) + inputs).T
    fold = np.concatenate([weights, biases, np.full((positions, 1), nowhere)], axis=1)
    expand = np.full(nowhere + 1, fold.shape[1] - 1)
    expand[fold[:, :-1]] = np.arange(fold.shape[1] - 1)
    return Tie(
        outputs,
        inputs,
        tuple(layer.weight.shape),
        (layer.out_channels, shape[0], shape[1]),
        torch.from_numpy(expand[:-1]).to(device),
        torch.from_numpy(fold).to(device),
    )


def _taps(size: int, kernel: int, stride: int, padding: int) -> tuple[np.ndarray, np.ndarray]:
    """Input coordinates (outputs, kernel) that each output reads along one axis, and which lie inside the image."""
    count = (size + 2 * padding - kernel) // stride + 1
    taps = np.arange(count)[:, None] * stride + np.arange(kernel) - padding
    return taps, (taps >= 0) & (taps < size)
