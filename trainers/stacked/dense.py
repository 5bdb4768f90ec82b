"""Linear layers and small convolutions with ReLU, all models at once, in buffers that are reused: the leanest engine.

Activations are held features-first, (models, features + 1, width), the last feature a constant 1: biases are a column
of the weights, so that one batched matrix product does a layer, one its gradient, and the norm of an example's gradient
of a layer is |a| |g| with the bias included (Goodfellow 2015, arXiv 1510.01799). Nothing large is allocated in a step:
fresh memory costs more than the arithmetic on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from .engine import StackedBatch, clip_factor, stack_parameters
from .tied import Tie, tie

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer with parameters; `dropout` follows its ReLU. With `tie` it is a convolution."""

    tie: Tie | None = None
    dropout: float = 0.0


def dense_engine(modules: Sequence[nn.Module], features: Tensor, *, private: bool) -> DenseEngine | None:
    """An engine over these models, or None unless they are (Linear or Conv2d, ReLU[, Dropout])*, Linear, with biases.

    Convolutions are taken on small images and without clipping only: the norm of a tied gradient is no product.
    """
    import torch

    if not features.is_floating_point() or features.dim() not in (2, 4):
        return None
    layers = _layers(modules[0], tuple(features.shape[1:]), str(features.device))
    if layers is None or (private and any(layer.tie for layer in layers)):
        return None
    stacked = stack_parameters(modules)
    parameters = []
    for layer, weight, bias in zip(layers, stacked[::2], stacked[1::2], strict=True):
        if layer.tie is None:
            parameters.append(torch.cat([weight, bias[..., None]], dim=2))
        else:
            parameters.append(torch.cat([weight.flatten(1), bias, bias.new_zeros(len(bias), 1)], dim=1))
    return DenseEngine(layers, parameters, features.flatten(1))


class DenseEngine:
    """`parameters` are (models, outputs, inputs + 1), weights and bias of one layer together; rows for a `Tie`."""

    def __init__(self, layers: list[_Layer], parameters: list[Tensor], features: Tensor) -> None:
        import torch

        self._layers = layers
        self.parameters = parameters
        self._data = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
        self._flat: dict[str, Tensor] = {}

    def views(self, stacked: Sequence[Tensor]) -> list[Tensor]:
        """As in `Engine`."""
        pairs = [
            (t[:, :, :-1], t[:, :, -1]) if layer.tie is None else layer.tie.views(t)
            for layer, t in zip(self._layers, stacked, strict=True)
        ]
        return [view for pair in pairs for view in pair]

    def logits(self, positions: Tensor) -> Tensor:
        """As in `Engine`."""
        import torch

        x = self._data[positions].mT[:, :-1]
        *hidden, last = self._dense()
        for weights in hidden:
            x = torch.baddbmm(weights[:, :, -1:], weights[:, :, :-1], x).relu_()
        return torch.baddbmm(last[:, :, -1:], last[:, :, :-1], x).mT

    def accumulate(self, batch: StackedBatch, into: list[Tensor], *, beta: float, scale: float) -> None:
        """As in `Engine`."""
        inputs, gradients = self._pass(batch, batch.weights)
        for number, (layer, target, a, g) in enumerate(zip(self._layers, into, inputs, gradients, strict=True)):
            if layer.tie is None:
                target.baddbmm_(g, a.mT, beta=beta, alpha=scale)
            else:
                target.mul_(beta).add_(self._tied(number, layer.tie, a, g), alpha=scale)

    def accumulate_clipped(
        self, batch: StackedBatch, into: list[Tensor], *, max_norm: float, beta: float, scale: float
    ) -> None:
        """As in `Engine`."""
        inputs, gradients = self._pass(batch, None)
        squared = batch.labels.new_zeros(gradients[0].shape[::2], dtype=gradients[0].dtype)
        for a, g in zip(inputs, gradients, strict=True):
            squared += self._squared(a) * self._squared(g)
        factor = clip_factor(squared, max_norm)
        if batch.weights is not None:
            factor *= batch.weights
        for target, a, g in zip(into, inputs, gradients, strict=True):
            target.baddbmm_(g.mul_(factor[:, None]), a.mT, beta=beta, alpha=scale)

    def keep(self, models: Tensor) -> None:
        """As in `Engine`."""
        self.parameters = [p[models] for p in self.parameters]
        self._flat.clear()

    def _pass(self, batch: StackedBatch, weights: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        """Every layer's input (models, inputs + 1, width) and loss gradient by its output (models, outputs, width)."""
        import torch

        dense = self._dense()
        inputs = self._forward(dense, batch)
        models, width = batch.labels.shape
        last = self._buffer("gradient", len(dense) - 1, (models, dense[-1].shape[1], width))
        torch.bmm(dense[-1], inputs[-1], out=last)
        torch.softmax(last, 1, out=last)
        onehot = last.new_ones(models, 1, width) if weights is None else weights[:, None]
        if weights is not None:
            last.mul_(onehot)
        last.scatter_add_(1, batch.labels[:, None], -onehot)
        gradients = [last]
        for number in reversed(range(1, len(dense))):
            gradients.append(self._back(number, dense[number], gradients[-1], inputs[number][:, :-1]))
        return inputs, gradients[::-1]

    def _dense(self) -> list[Tensor]:
        """Weights with bias, (models, outputs, inputs + 1), of every layer."""
        dense = []
        for number, (layer, own) in enumerate(zip(self._layers, self.parameters, strict=True)):
            if layer.tie is not None:
                own = layer.tie.dense(own, self._buffer("dense", number, (len(own), len(layer.tie.expand))))
            dense.append(own)
        return dense

    def _forward(self, dense: list[Tensor], batch: StackedBatch) -> list[Tensor]:
        import torch

        models, width = batch.positions.shape
        rows = self._buffer("input", 0, (models * width, self._data.shape[1]))
        torch.index_select(self._data, 0, batch.positions.reshape(-1), out=rows)
        inputs = [rows.view(models, width, -1).mT]
        for number, weights in enumerate(dense[:-1]):
            outputs = weights.shape[1]
            buffer = self._buffer("output", number, (models, outputs + 1, width))
            value = buffer[:, :outputs]
            torch.bmm(weights, inputs[-1], out=value)
            value.relu_()
            if self._layers[number].dropout:
                _drop(value, self._layers[number].dropout, batch)
            buffer[:, outputs] = 1
            inputs.append(buffer)
        return inputs

    def _back(self, number: int, weights: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
        """The gradient by the product of the layer before `number`, whose activated value is `value`."""
        import torch

        buffer = self._buffer("gradient", number - 1, (len(value), value.shape[1], value.shape[2]))
        torch.bmm(weights[:, :, :-1].mT, gradient, out=buffer)
        # Zero where the value is: there ReLU was flat or dropout cut the path.
        torch.ops.aten.threshold_backward.grad_input(buffer, value, 0, grad_input=buffer)
        dropout = self._layers[number - 1].dropout
        return buffer.div_(1 - dropout) if dropout else buffer

    def _tied(self, number: int, tie: Tie, a: Tensor, g: Tensor) -> Tensor:
        """The gradient (models, own) of a convolution's own numbers."""
        import torch

        entries = tie.outputs * (tie.inputs + 1)
        buffer = self._buffer("tied", number, (len(g), entries + 1))
        torch.bmm(g, a.mT, out=buffer[:, :entries].view(len(g), tie.outputs, tie.inputs + 1))
        buffer[:, entries] = 0
        return tie.folded(buffer)

    def _squared(self, t: Tensor) -> Tensor:
        """Sum of squares over axis 1; `vector_norm`, not vectorised along that axis, takes several times as long."""
        import torch

        square = self._buffer("square", 0, tuple(t.shape))
        return torch.mul(t, t, out=square).sum(1)

    def _buffer(self, kind: str, number: int, shape: tuple[int, ...]) -> Tensor:
        """A contiguous tensor of this shape on memory that earlier steps used for the same."""
        key, size = f"{kind}{number}", prod(shape)
        if key not in self._flat or len(self._flat[key]) < size:
            self._flat[key] = self._data.new_empty(size)
        return self._flat[key][:size].view(shape)


def _drop(value: Tensor, p: float, batch: StackedBatch) -> None:
    """Dropout in place of (models, features, width), with a stream per model. On the CPU these are the draws that a
    single model's dropout would make."""
    kept = value.new_zeros(value.shape[0], value.shape[2], value.shape[1])
    for model, (size, generator) in enumerate(zip(batch.sizes, batch.dropout, strict=True)):
        kept[model, :size].bernoulli_(1 - p, generator=generator)
    value.mul_(kept.div_(1 - p).mT)


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
    return layers if len(shape) == 1 and awaited == (nn.ReLU,) else None


def _layer(layer: nn.Module, shape: tuple[int, ...], device: str) -> tuple[_Layer, tuple[int, ...]] | None:
    """The layer on inputs of `shape`, and the shape of its outputs."""
    from torch import nn

    if isinstance(layer, nn.Linear) and layer.bias is not None and len(shape) == 1:
        return _Layer(), (layer.out_features,)
    if isinstance(layer, nn.Conv2d) and len(shape) == 3:
        tied = tie(layer, (shape[0], shape[1], shape[2]), device)
        return None if tied is None else (_Layer(tied), tied.output_shape)
    return None
