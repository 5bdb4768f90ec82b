"""Multilayer perceptrons with ReLU, all models at once, in buffers that are reused: the leanest of the engines.

Activations are held features-first, (models, features + 1, width), the last feature a constant 1: biases are a column
of the weights, so that one batched matrix product does a layer, one its gradient, and the norm of an example's gradient
of a layer is |a| |g| with the bias included (Goodfellow 2015, arXiv 1510.01799). Nothing large is allocated in a step:
fresh memory costs more than the arithmetic on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .engine import StackedBatch, clip_factor, stack_parameters

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class _Hidden:
    """What follows a hidden layer's product: ReLU, then dropout with probability `dropout`."""

    dropout: float = 0.0


def dense_engine(modules: Sequence[nn.Module], features: Tensor) -> DenseEngine | None:
    """An engine over these models, or None unless they are [Flatten,] (Linear, ReLU[, Dropout])*, Linear."""
    import torch

    shape = _hidden_layers(modules[0])
    if shape is None or not features.is_floating_point() or not (features.dim() == 2 or _flattens(modules[0])):
        return None
    stacked = stack_parameters(modules)
    joined = [torch.cat([w, b[..., None]], dim=2) for w, b in zip(stacked[::2], stacked[1::2], strict=True)]
    return DenseEngine(shape, joined, features.flatten(1))


class DenseEngine:
    """`parameters` are (models, outputs, inputs + 1), weights and bias of one layer together."""

    def __init__(self, hidden: list[_Hidden], parameters: list[Tensor], features: Tensor) -> None:
        import torch

        self._hidden = hidden
        self.parameters = parameters
        self._data = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
        self._flat: dict[str, Tensor] = {}

    def views(self, stacked: Sequence[Tensor]) -> list[Tensor]:
        """As in `Engine`."""
        return [view for t in stacked for view in (t[:, :, :-1], t[:, :, -1])]

    def logits(self, positions: Tensor) -> Tensor:
        """As in `Engine`."""
        import torch

        x = self._data[positions].mT
        for parameters in self.parameters[:-1]:
            # Adding the constant feature apart keeps evaluation free of the training buffers.
            x = torch.baddbmm(parameters[:, :, -1:], parameters[:, :, :-1], x[:, : parameters.shape[2] - 1]).relu_()
        last = self.parameters[-1]
        return torch.baddbmm(last[:, :, -1:], last[:, :, :-1], x[:, : last.shape[2] - 1]).mT

    def accumulate(self, batch: StackedBatch, into: list[Tensor], *, beta: float, scale: float) -> None:
        """As in `Engine`."""
        inputs, gradients = self._pass(batch, batch.weights)
        for target, a, g in zip(into, inputs, gradients, strict=True):
            target.baddbmm_(g, a.mT, beta=beta, alpha=scale)

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

        inputs = self._forward(batch)
        models, width = batch.labels.shape
        last = self._buffer("gradient", len(self.parameters) - 1, (models, self.parameters[-1].shape[1], width))
        torch.bmm(self.parameters[-1], inputs[-1], out=last)
        torch.softmax(last, 1, out=last)
        onehot = last.new_ones(models, 1, width) if weights is None else weights[:, None]
        if weights is not None:
            last.mul_(onehot)
        last.scatter_add_(1, batch.labels[:, None], -onehot)
        gradients = [last]
        for layer in reversed(range(1, len(self.parameters))):
            gradients.append(self._back(layer, gradients[-1], inputs[layer][:, :-1]))
        return inputs, gradients[::-1]

    def _forward(self, batch: StackedBatch) -> list[Tensor]:
        import torch

        models, width = batch.positions.shape
        rows = self._buffer("input", 0, (models * width, self._data.shape[1]))
        torch.index_select(self._data, 0, batch.positions.reshape(-1), out=rows)
        inputs = [rows.view(models, width, -1).mT]
        for number, (hidden, parameters) in enumerate(zip(self._hidden, self.parameters, strict=False)):
            outputs = parameters.shape[1]
            buffer = self._buffer("output", number, (models, outputs + 1, width))
            value = buffer[:, :outputs]
            torch.bmm(parameters, inputs[-1], out=value)
            value.relu_()
            if hidden.dropout:
                _drop(value, hidden.dropout, batch)
            buffer[:, outputs] = 1
            inputs.append(buffer)
        return inputs

    def _back(self, layer: int, gradient: Tensor, value: Tensor) -> Tensor:
        """The gradient by the product of the layer before `layer`, whose activated value is `value`."""
        import torch

        buffer = self._buffer("gradient", layer - 1, (len(value), value.shape[1], value.shape[2]))
        torch.bmm(self.parameters[layer][:, :, :-1].mT, gradient, out=buffer)
        # Zero where the value is: there ReLU was flat or dropout cut the path.
        torch.ops.aten.threshold_backward.grad_input(buffer, value, 0, grad_input=buffer)
        dropout = self._hidden[layer - 1].dropout
        return buffer.div_(1 - dropout) if dropout else buffer

    def _squared(self, t: Tensor) -> Tensor:
        """Sum of squares over axis 1; `vector_norm`, not vectorised along that axis, takes several times as long."""
        import torch

        square = self._buffer("square", 0, tuple(t.shape))
        return torch.mul(t, t, out=square).sum(1)

    def _buffer(self, kind: str, number: int, shape: tuple[int, ...]) -> Tensor:
        """A contiguous tensor of this shape on memory that earlier steps used for the same."""
        from math import prod

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


def _flattens(module: nn.Module) -> bool:
    from torch import nn

    first = next(iter(module.children()), None)
    return isinstance(first, nn.Flatten) and (first.start_dim, first.end_dim) == (1, -1)


def _hidden_layers(module: nn.Module) -> list[_Hidden] | None:
    from torch import nn

    if type(module) is not nn.Sequential or any(not p.requires_grad for p in module.parameters()):
        return None
    layers = list(module)[1 if _flattens(module) else 0 :]
    if not layers or len({id(layer) for layer in layers}) < len(layers):
        return None
    hidden: list[_Hidden] = []
    while len(layers) > 1:
        if not (_is_linear(layers[0]) and type(layers[1]) is nn.ReLU):
            return None
        dropout = layers[2] if len(layers) > 2 and type(layers[2]) is nn.Dropout else None
        hidden.append(_Hidden(dropout.p if isinstance(dropout, nn.Dropout) else 0.0))
        layers = layers[2 if dropout is None else 3 :]
    return hidden if layers and _is_linear(layers[0]) else None


def _is_linear(layer: nn.Module) -> bool:
    from torch import nn

    return type(layer) is nn.Linear and layer.bias is not None
