"""Linear layers and small convolutions with ReLU, all models at once, in buffers that are reused: the leanest engine.

Activations are held features-first, (models, features, width): one batched matrix product does a layer, one its
gradient, and the norm of an example's gradient of a linear layer is |a| |g| (Goodfellow 2015, arXiv 1510.01799).
Nothing large is allocated in a step: fresh memory costs more than the arithmetic on it. Products are written to
contiguous memory: into anything else, torch multiplies one model after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from .band import Band, band_of
from .engine import StackedBatch, add_scaled, clip_factor, stack_parameters

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer with parameters; `dropout` follows its ReLU. With `band` it is a convolution, whose outputs are held
    channels-first when `flattened`, that is before a linear layer, and channels-last otherwise."""

    outputs: int
    band: Band | None = None
    dropout: float = 0.0
    flattened: bool = False

    def rows_first(self, value: Tensor) -> Tensor:
        """Outputs (models, outputs, width) of a convolution as a view (models, rows, columns, channels, width)."""
        assert self.band is not None
        channels, rows, columns = self.band.output_shape
        if self.flattened:
            return value.view(len(value), channels, rows, columns, -1).permute(0, 2, 3, 1, 4)
        return value.view(len(value), rows, columns, channels, -1)


def dense_engine(modules: Sequence[nn.Module], features: Tensor, *, private: bool) -> DenseEngine | None:
    """An engine over these models, or None unless they are (Linear or Conv2d, ReLU[, Dropout])*, Linear, with biases.

    Convolutions are taken on small images and without clipping only: the norm of a tied gradient is no product.
    """
    if not features.is_floating_point() or features.dim() not in (2, 4):
        return None
    layers = _layers(modules[0], tuple(features.shape[1:]), str(features.device))
    if layers is None or (private and any(layer.band for layer in layers)):
        return None
    if layers[0].band is not None:
        features = features.permute(0, 2, 3, 1)
    return DenseEngine(layers, stack_parameters(modules), features.flatten(1).contiguous())


class DenseEngine:
    """`parameters` are weight and bias of each layer in turn."""

    def __init__(self, layers: list[_Layer], parameters: list[Tensor], features: Tensor) -> None:
        self._layers = layers
        self.parameters = parameters
        self._data = features
        self._squares = features.square().sum(1)
        self._memory: dict[tuple[str, int], Tensor] = {}

    def logits(self, positions: Tensor) -> Tensor:
        """As in `Engine`."""
        matrices = self._matrices()
        return self._last(matrices, self._forward(matrices, positions, None)[-1]).mT

    def accumulate(self, batch: StackedBatch, into: list[Tensor], *, beta: float, scale: float) -> None:
        """As in `Engine`."""
        inputs, gradients = self._pass(batch, batch.weights)
        for number, (a, g) in enumerate(zip(inputs, gradients, strict=True)):
            self._add(number, a, g, into, beta, scale)

    def accumulate_clipped(
        self, batch: StackedBatch, into: list[Tensor], *, max_norm: float, beta: float, scale: float
    ) -> None:
        """As in `Engine`."""
        inputs, gradients = self._pass(batch, None)
        squared = self._squares.take(batch.positions).add_(1).mul_(self._squared(gradients[0]))
        for a, g in zip(inputs[1:], gradients[1:], strict=True):
            squared.addcmul_(self._squared(a).add_(1), self._squared(g))
        factor = clip_factor(squared, max_norm)
        if batch.weights is not None:
            factor *= batch.weights
        for number, (a, g) in enumerate(zip(inputs, gradients, strict=True)):
            self._add(number, a, g.mul_(factor[:, None]), into, beta, scale)

    def values(self, width: int) -> int:
        """As in `Engine`."""
        held = width * (self._data.shape[1] + 1)
        for layer in self._layers:
            held += 3 * width * layer.outputs
            if layer.band is not None:
                held += 3 * prod(layer.band.shape) + 2 * width * layer.band.shape[1]
        return held

    def _pass(self, batch: StackedBatch, weights: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        """Every layer's input (models, inputs, width) and loss gradient by its output (models, outputs, width)."""
        import torch

        matrices, labels = self._matrices(), batch.labels[:, None]
        inputs = self._forward(matrices, batch.positions, batch)
        last = self._last(matrices, inputs[-1])
        torch.softmax(last, 1, out=last)
        if weights is None:
            last.scatter_add_(1, labels, last.new_full((1, 1, 1), -1.0).expand(labels.shape))
        else:
            last.mul_(weights[:, None]).scatter_add_(1, labels, -weights[:, None])
        gradients = [last]
        for number in reversed(range(1, len(matrices))):
            gradients.append(self._back(number, matrices[number], gradients[-1], inputs[number]))
        return inputs, gradients[::-1]

    def _matrices(self) -> list[Tensor]:
        """(models, outputs, inputs) of every linear layer, the band matrix of every convolution."""
        matrices = []
        for number, (layer, weight) in enumerate(zip(self._layers, self.parameters[::2], strict=True)):
            if layer.band is not None:
                weight = layer.band.matrix(weight, self._buffer("matrix", number, (len(weight), prod(layer.band.shape))))
            matrices.append(weight)
        return matrices

    def _forward(self, matrices: list[Tensor], positions: Tensor, batch: StackedBatch | None) -> list[Tensor]:
        """The input of every layer. With a batch: training mode."""
        import torch

        models, width = positions.shape
        rows = self._buffer("input", 0, (models * width, self._data.shape[1]))
        torch.index_select(self._data, 0, positions.reshape(-1), out=rows)
        inputs = [rows.view(models, width, -1).mT]
        for number, (layer, matrix) in enumerate(zip(self._layers[:-1], matrices[:-1], strict=True)):
            bias = self.parameters[2 * number + 1]
            value = self._buffer("output", number, (models, layer.outputs, width))
            if layer.band is None:
                torch.baddbmm(bias[:, :, None], matrix, inputs[-1], out=value)
            else:
                self._convolve(layer, matrix, bias, inputs[-1], value)
            value.relu_()
            if layer.dropout and batch is not None:
                _drop(layer, value, batch)
            inputs.append(value)
        return inputs

    def _last(self, matrices: list[Tensor], value: Tensor) -> Tensor:
        """Logits (models, classes, width)."""
        import torch

        out = self._buffer("gradient", len(matrices) - 1, (len(value), matrices[-1].shape[1], value.shape[2]))
        return torch.baddbmm(self.parameters[-1][:, :, None], matrices[-1], value, out=out)

    def _back(self, number: int, matrix: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
        """The gradient by the product of the layer before `number`, whose activated value is `value`."""
        import torch

        layer, before = self._layers[number], self._layers[number - 1]
        buffer = self._buffer("gradient", number - 1, tuple(value.shape))
        if layer.band is None:
            torch.bmm(matrix.mT, gradient, out=buffer)
        else:
            buffer.zero_()
            for row in layer.band.rows:
                part = self._buffer("row", 0, (len(value), row.inputs.stop - row.inputs.start, value.shape[2]))
                torch.bmm(matrix[:, :, row.columns].mT, gradient[:, row.outputs], out=part)
                buffer[:, row.inputs] += part
        out, seen = buffer, value
        if before.flattened:
            buffer, seen = before.rows_first(buffer), before.rows_first(value)
            out = self._buffer("rows first", number - 1, tuple(buffer.shape))
        # Zero where the value is: there ReLU was flat or dropout cut the path.
        torch.ops.aten.threshold_backward.grad_input(buffer, seen, 0, grad_input=out)
        if before.dropout:
            out.div_(1 - before.dropout)
        return out.view(value.shape)

    def _convolve(self, layer: _Layer, matrix: Tensor, bias: Tensor, image: Tensor, value: Tensor) -> None:
        """`value` = the convolution of `image`."""
        import torch

        assert layer.band is not None
        out = layer.rows_first(value)
        for number, row in enumerate(layer.band.rows):
            part = self._buffer("row", 0, (len(value), layer.band.shape[0], value.shape[2]))
            torch.bmm(matrix[:, :, row.columns], image[:, row.inputs], out=part)
            torch.add(part.view(len(value), *out.shape[2:]), bias[:, None, :, None], out=out[:, number])

    def _add(self, number: int, a: Tensor, g: Tensor, into: list[Tensor], beta: float, scale: float) -> None:
        """into = beta into + scale times the gradient, for the weight and the bias of a layer."""
        weight, bias = into[2 * number : 2 * number + 2]
        layer = self._layers[number]
        if layer.band is None:
            weight.baddbmm_(g, a.mT, beta=beta, alpha=scale)
            add_scaled(bias, g.sum(2), beta, scale)
            return
        columns = layer.band.output_shape[1:]
        gradient = layer.band.folded(self._band_gradient(layer.band, a, g))
        add_scaled(weight, gradient.view(weight.shape), beta, scale)
        add_scaled(bias, g.view(len(g), prod(columns), -1, g.shape[2]).sum((1, 3)), beta, scale)

    def _band_gradient(self, band: Band, a: Tensor, g: Tensor) -> Tensor:
        """The gradient (models, *band.shape) by the band matrix, summed over output rows."""
        import torch

        total = self._buffer("band", 0, (len(g), *band.shape)).zero_()
        for row in band.rows:
            if row.columns.stop - row.columns.start == band.shape[1]:
                total.baddbmm_(g[:, row.outputs], a[:, row.inputs].mT)
            else:
                width = row.columns.stop - row.columns.start
                part = self._buffer("row", 0, (len(g), band.shape[0], width))
                total[:, :, row.columns] += torch.bmm(g[:, row.outputs], a[:, row.inputs].mT, out=part)
        return total

    def _squared(self, t: Tensor) -> Tensor:
        """Sum of squares over axis 1; `vector_norm`, not vectorised along that axis, takes several times as long."""
        import torch

        square = self._buffer("square", 0, tuple(t.shape))
        return torch.mul(t, t, out=square).sum(1)

    def _buffer(self, kind: str, number: int, shape: tuple[int, ...]) -> Tensor:
        """A contiguous tensor of this shape on memory that earlier steps used for the same."""
        key, size = (kind, number), prod(shape)
        memory = self._memory.get(key)
        if memory is None or len(memory) < size:
            memory = self._memory[key] = self._data.new_empty(size)
        return memory[:size].view(shape)


def _drop(layer: _Layer, value: Tensor, batch: StackedBatch) -> None:
    """Dropout in place of (models, features, width), with a stream per model. On the CPU these are the draws that a
    single model's dropout would make."""
    p = layer.dropout
    kept = value.new_zeros(value.shape[0], value.shape[2], value.shape[1])
    for model, (size, generator) in enumerate(zip(batch.sizes, batch.dropout, strict=True)):
        kept[model, :size].bernoulli_(1 - p, generator=generator)
    kept.div_(1 - p)
    if layer.band is None or layer.flattened:
        value.mul_(kept.mT)
    else:
        # Drawn for (width, channels, rows, columns), as torch lays images out.
        drawn = kept.view(*kept.shape[:2], *layer.band.output_shape)
        layer.rows_first(value).mul_(drawn.permute(0, 3, 4, 2, 1))


def _layers(module: nn.Module, shape: tuple[int, ...], device: str) -> list[_Layer] | None:
    """The layers with parameters of a plain sequence on records of `shape`, or None where something else occurs."""
    from torch import nn

    if type(module) is not nn.Sequential or any(not p.requires_grad for p in module.parameters()):
        return None
    if len({id(layer) for layer in module}) < len(module):
        return None
    layers: list[_Layer] = []
    awaited: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d)
    for layer in module:
        if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
            if layers and len(shape) > 1:
                layers[-1] = replace(layers[-1], flattened=True)
            shape = (prod(shape),)
        elif type(layer) is nn.ReLU and awaited == (nn.ReLU,):
            awaited = (nn.Linear, nn.Conv2d, nn.Dropout)
        elif type(layer) is nn.Dropout and nn.Dropout in awaited:
            layers[-1] = replace(layers[-1], dropout=layer.p)
            awaited = (nn.Linear, nn.Conv2d)
        else:
            found = _layer(layer, shape, device) if type(layer) in awaited else None
            if found is None:
                return None
            layers.append(found[0])
            shape, awaited = found[1], (nn.ReLU,)
    return layers if awaited == (nn.ReLU,) and layers[-1].band is None else None


def _layer(layer: nn.Module, shape: tuple[int, ...], device: str) -> tuple[_Layer, tuple[int, ...]] | None:
    """The layer on inputs of `shape`, and the shape of its outputs."""
    from torch import nn

    if isinstance(layer, nn.Linear) and layer.bias is not None and len(shape) == 1:
        return _Layer(layer.out_features), (layer.out_features,)
    if isinstance(layer, nn.Conv2d) and len(shape) == 3:
        found = band_of(layer, (shape[0], shape[1], shape[2]), device)
        return None if found is None else (_Layer(prod(found.output_shape), found), found.output_shape)
    return None
