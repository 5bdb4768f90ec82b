"""Linear layers and small convolutions with ReLU, all models at once, in buffers that are reused: the leanest engine.

Activations are held features-first, (models, features, width): one batched matrix product does a layer, one its
gradient, and the norm of an example's gradient of a linear layer is |a| |g| (Goodfellow 2015, arXiv 1510.01799).
For a convolution it follows from the products of inputs and of output gradients of all pairs of positions (Bu, Mao, Xu
2022, arXiv 2205.10683). Nothing large is allocated in a step: fresh memory costs more than the arithmetic on it.
Products are written to contiguous memory: into anything else, torch multiplies one model after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from .band import Band, pairs_of
from .chain import Layer, layers_of
from .engine import StackedBatch, add_scaled, clip_factor, stack_parameters

if TYPE_CHECKING:
    from torch import Tensor, nn

PREPARED_BYTES = 64 << 20
"""Largest table of the data's inner products kept for clipping a first convolution."""


def dense_engine(modules: Sequence[nn.Module], features: Tensor, *, private: bool) -> DenseEngine | None:
    """An engine over these models, or None unless they are (Linear or Conv2d, ReLU[, MaxPool2d][, Dropout])*, Linear,
    with biases, and convolutions are on images small enough; under clipping, with few positions as well."""
    if not features.is_floating_point() or features.dim() not in (2, 4):
        return None
    layers = layers_of(modules[0], tuple(features.shape[1:]), str(features.device))
    if layers is None or (private and any(layer.band and not layer.band.few_positions for layer in layers)):
        return None
    pairs = None
    if layers[0].band is not None:
        features = features.permute(0, 2, 3, 1)
        if private:
            pairs = _data_pairs(layers[0].band, features.flatten(1))
            if pairs.numel() * pairs.element_size() > PREPARED_BYTES:
                return None
    return DenseEngine(layers, stack_parameters(modules), features.flatten(1).contiguous(), pairs)


class DenseEngine:
    """`parameters` are weight and bias of each layer in turn."""

    def __init__(self, layers: list[Layer], parameters: list[Tensor], features: Tensor, pairs: Tensor | None) -> None:
        self._layers = layers
        self.parameters = parameters
        self._data = features
        self._squares = features.square().sum(1)
        self._pairs = pairs
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
        squared = self._squared_norms(0, inputs[0], gradients[0], batch.positions)
        for number in range(1, len(inputs)):
            squared += self._squared_norms(number, inputs[number], gradients[number], batch.positions)
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
                held += 3 * prod(layer.band.shape) + 4 * width * prod(layer.band.output_shape)
                held += 2 * width * layer.band.shape[1]
            if layer.band is not None and self._pairs is not None:
                held += width * layer.band.pairs + layer.band.patches.numel() * width
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
                out = self._buffer("matrix", number, (len(weight), prod(layer.band.shape)))
                weight = layer.band.matrix(weight, out)
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
                torch.baddbmm(bias[:, :, None], matrix, inputs[-1], out=value).relu_()
            else:
                self._image(number, matrix, inputs[-1], value)
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
        if before.pool is None:
            return out.view(value.shape)
        return self._unpooled(number - 1, out, value)

    def _image(self, number: int, matrix: Tensor, image: Tensor, value: Tensor) -> None:
        """`value` = the activated and pooled convolution of `image`."""
        import torch

        layer, bias = self._layers[number], self.parameters[2 * number + 1]
        band, models, width = layer.band, len(value), value.shape[2]
        assert band is not None
        full = layer.rows_first(value)
        if layer.pool is not None:
            channels, height, breadth = band.output_shape
            full = self._buffer("full", number, (models, height, breadth, channels, width))
        for position, row in enumerate(band.rows):
            part = self._buffer("row", 0, (models, band.shape[0], width))
            torch.bmm(matrix[:, :, row.columns], image[:, row.inputs], out=part)
            torch.add(part.view(models, *full.shape[2:]), bias[:, None, :, None], out=full[:, position])
        full.relu_()
        if layer.pool is not None:
            first, *others = layer.pool.cells(full)
            pooled = layer.rows_first(value).copy_(first)
            for cell in others:
                torch.maximum(pooled, cell, out=pooled)

    def _unpooled(self, number: int, gradient: Tensor, value: Tensor) -> Tensor:
        """The gradient by a convolution's output of `gradient` by its pooled one; equal cells: the first has it all."""
        import torch

        layer = self._layers[number]
        assert layer.band is not None
        assert layer.pool is not None
        channels, height, breadth = layer.band.output_shape
        pooled = layer.rows_first(value)
        left = gradient.view(pooled.shape)
        shape = (len(value), height, breadth, channels, value.shape[2])
        full, out = self._buffer("full", number, shape), self._buffer("unpooled", number, shape)
        if not layer.pool.covers(height, breadth):
            out.zero_()
        hit = self._buffer("hit", 0, tuple(pooled.shape))
        for cell, target in zip(layer.pool.cells(full), layer.pool.cells(out), strict=True):
            torch.eq(cell, pooled, out=hit)
            torch.mul(hit, left, out=target)
            left.sub_(target)
        return out.view(len(value), -1, value.shape[2])

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

    def _squared_norms(self, number: int, a: Tensor, g: Tensor, positions: Tensor) -> Tensor:
        """Squared norm (models, width) of each example's gradient of layer `number`, weight and bias."""
        import torch

        band = self._layers[number].band
        if band is None:
            inputs = self._squares.take(positions) if number == 0 else self._squared(a)
            return inputs.add_(1).mul_(self._squared(g))
        models, width = positions.shape
        places = prod(band.output_shape[1:])
        outer = self._pair_products("g", g.view(models, places, -1, width))
        if number == 0:
            assert self._pairs is not None
            inner = self._pairs.index_select(0, positions.reshape(-1)).view(models, width, -1).mT
        else:
            taken = self._buffer("patches", 0, (models, band.patches.numel(), width))
            torch.index_select(a, 1, band.patches.flatten(), out=taken)
            patches = taken.view(models, places, -1, width).mul_(band.real[:, :, None])
            inner = self._pair_products("a", patches).add_(1).mul_(band.twice[:, None])
        return outer.mul_(inner).sum(1)

    def _pair_products(self, name: str, t: Tensor) -> Tensor:
        """Inner products (models, pairs, width) over axis 2 of all pairs of positions of (models, positions, ...,
        width), in the order of `pairs_of`."""
        import torch

        models, places, depth, width = t.shape
        out = self._buffer("pairs " + name, 0, (models, places * (places + 1) // 2, width))
        start = 0
        for apart in range(places):
            count = places - apart
            products = self._buffer("products", 0, (models, count, depth, width))
            torch.mul(t[:, apart:], t[:, :count], out=products)
            torch.sum(products, 2, out=out[:, start : start + count])
            start += count
        return out

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


def _drop(layer: Layer, value: Tensor, batch: StackedBatch) -> None:
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
        drawn = kept.view(*kept.shape[:2], *layer.shape)
        layer.rows_first(value).mul_(drawn.permute(0, 3, 4, 2, 1))


def _data_pairs(band: Band, data: Tensor) -> Tensor:
    """Inner products (records, pairs) of the patches of every record, 1 for the bias included, pairs of two different
    positions counted twice."""
    patches = data[:, band.patches] * band.real
    products = (patches @ patches.mT).flatten(1)
    first, second = pairs_of(len(band.patches))
    return (products[:, first * len(band.patches) + second] + 1) * band.twice
