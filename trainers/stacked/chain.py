"""Which modules the dense engine takes, and what it must know of each layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from .band import Band, band_of
from .engine import is_plain

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Pool:
    """Max pooling over cells of (rows, columns) that do not overlap; what is left at the edges is not seen."""

    rows: int
    columns: int

    def cells(self, image: Tensor) -> Iterator[Tensor]:
        """For each place in a cell, rows first, what (models, rows, columns, ...) holds there: (models, cells, ...)."""
        height, breadth = image.shape[1] // self.rows, image.shape[2] // self.columns
        for i in range(self.rows):
            for j in range(self.columns):
                yield image[:, i : height * self.rows : self.rows, j : breadth * self.columns : self.columns]

    def covers(self, rows: int, columns: int) -> bool:
        """Whether cells cover an image of this size."""
        return rows % self.rows == 0 and columns % self.columns == 0


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with parameters; `outputs` (after pooling) go through ReLU, and `dropout` follows. With `band` it is a
    convolution, whose outputs are held channels-first when `flattened`, that is before a linear layer, and
    channels-last otherwise."""

    outputs: int
    band: Band | None = None
    pool: Pool | None = None
    dropout: float = 0.0
    flattened: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a convolution's pooled outputs."""
        assert self.band is not None
        channels, height, width = self.band.output_shape
        if self.pool is None:
            return channels, height, width
        return channels, height // self.pool.rows, width // self.pool.columns

    def rows_first(self, value: Tensor) -> Tensor:
        """Outputs (models, outputs, width) of a convolution as a view (models, rows, columns, channels, width)."""
        channels, rows, columns = self.shape
        if self.flattened:
            return value.view(len(value), channels, rows, columns, -1).permute(0, 2, 3, 1, 4)
        return value.view(len(value), rows, columns, channels, -1)


def layers_of(module: nn.Module, shape: tuple[int, ...], device: str) -> list[Layer] | None:
    """The layers of a plain sequence on records of `shape`, or None where something else occurs."""
    from torch import nn

    if type(module) is not nn.Sequential or not is_plain(module):
        return None
    chain = _Chain([], shape, device)
    if not all(chain.take(layer) for layer in module):
        return None
    return chain.layers if chain.open and chain.layers[-1].band is None else None


@dataclass(slots=True)
class _Chain:
    """Layers so far and the `shape` of their outputs. `open`: the last one still waits for its ReLU."""

    layers: list[Layer]
    shape: tuple[int, ...]
    device: str
    open: bool = False

    def take(self, module: nn.Module) -> bool:
        """Go on with `module`; False where it does not fit."""
        from torch import nn

        if isinstance(module, nn.Flatten):
            return self._flatten(module)
        if type(module) is nn.ReLU:
            was, self.open = self.open, False
            return was
        if type(module) is nn.MaxPool2d:
            return self._pool(module)
        if type(module) is nn.Dropout:
            return not self.open and self._change(dropout=module.p)
        return not self.open and self._layer(module)

    def _change(self, **values: Any) -> bool:
        """Change the last layer; False where there is none or dropout has ended it."""
        if not self.layers or self.layers[-1].dropout:
            return False
        self.layers[-1] = replace(self.layers[-1], **values)
        return True

    def _flatten(self, module: nn.Flatten) -> bool:
        if (module.start_dim, module.end_dim) != (1, -1):
            return False
        if self.layers and len(self.shape) > 1:
            self.layers[-1] = replace(self.layers[-1], flattened=True)
        self.shape = (prod(self.shape),)
        return True

    def _pool(self, module: nn.MaxPool2d) -> bool:
        """Before or after ReLU is the same: both keep the order of numbers."""
        kernel, stride = _pair(module.kernel_size), _pair(module.stride)
        plain = _pair(module.padding) == (0, 0) and _pair(module.dilation) == (1, 1) and not module.ceil_mode
        if kernel != stride or not plain or module.return_indices or len(self.shape) != 3:
            return False
        channels, height, width = self.shape
        if not self.layers or self.layers[-1].pool or min(height // kernel[0], width // kernel[1]) < 1:
            return False
        self.shape = (channels, height // kernel[0], width // kernel[1])
        return self._change(pool=Pool(*kernel), outputs=prod(self.shape))

    def _layer(self, module: nn.Module) -> bool:
        from torch import nn

        if type(module) is nn.Linear and module.bias is not None and len(self.shape) == 1:
            self.layers.append(Layer(module.out_features))
            self.shape = (module.out_features,)
        elif type(module) is nn.Conv2d and len(self.shape) == 3:
            band = band_of(module, (self.shape[0], self.shape[1], self.shape[2]), self.device)
            if band is None:
                return False
            self.layers.append(Layer(prod(band.output_shape), band))
            self.shape = band.output_shape
        else:
            return False
        self.open = True
        return True


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
