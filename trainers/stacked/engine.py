"""What the stacked loop asks of an architecture: gradients of many models at once, plain or clipped per example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

OPACUS_SLACK = 1e-6
"""Opacus clips by C / (norm + 1e-6); parity needs the same."""


@dataclass(frozen=True, slots=True)
class StackedBatch:
    """One step's rows for every model: positions in the data and labels, both (models, width).

    `weights` (models, width) are 1 for a real row and 0 for padding; None where nothing is padded. `sizes` are the
    numbers of real rows, which come first. `dropout` holds one generator per model where the architecture needs them.
    """

    positions: Tensor
    labels: Tensor
    weights: Tensor | None
    sizes: Sequence[int]
    dropout: Sequence[torch.Generator]


class Engine(Protocol):
    """The parameters of all models, each (models, ...), in the order of `module.parameters()`, and their gradients.

    An engine holds the features of all records and gathers its batches. The loop may replace `parameters` between
    steps, by fewer models too.
    """

    parameters: list[Tensor]

    def logits(self, positions: Tensor) -> Tensor:
        """Logits (models, width, classes) in evaluation mode of the records at `positions` (models, width)."""

    def accumulate(self, batch: StackedBatch, into: list[Tensor], *, beta: float, scale: float) -> None:
        """`into` = beta `into` + scale times the gradient of the batch's summed loss, for every parameter."""

    def accumulate_clipped(
        self, batch: StackedBatch, into: list[Tensor], *, max_norm: float, beta: float, scale: float
    ) -> None:
        """The same with each example's gradient clipped to `max_norm` in l2 over all parameters of its model."""

    def values(self, width: int) -> int:
        """About how many numbers one model holds in a step on `width` examples, parameters not counted."""


def stack_parameters(modules: Sequence[nn.Module]) -> list[Tensor]:
    """Parameters of all models, each (models, ...), in the order of `module.parameters()`."""
    import torch

    columns = zip(*(module.parameters() for module in modules), strict=True)
    return [torch.stack([p.detach() for p in column]) for column in columns]


def is_plain(module: nn.Module) -> bool:
    """Whether every parameter is trained and belongs to one layer that occurs once."""
    names = len(list(module.named_parameters(remove_duplicate=False)))
    return names == len(list(module.parameters())) and all(p.requires_grad for p in module.parameters())


def loss_gradient(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """The derivative (models, width, classes) of the weighted sum of cross-entropies by the logits."""
    import torch

    # Classes second to last: softmax along a short contiguous axis is twenty times slower.
    gradient = torch.softmax(logits.mT.contiguous(), 1)
    if weights is None:
        gradient.scatter_add_(1, labels[:, None], gradient.new_full((1, 1, 1), -1.0).expand(*_row(labels)))
    else:
        gradient.mul_(weights[:, None]).scatter_add_(1, labels[:, None], -weights[:, None])
    return gradient.mT


def add_scaled(target: Tensor, value: Tensor, beta: float, scale: float) -> None:
    """target = beta target + scale value."""
    if beta != 1:
        target.mul_(beta)
    target.add_(value, alpha=scale)


def clip_factor(squared_norms: Tensor, max_norm: float) -> Tensor:
    """min(1, C / (norm + 1e-6)) per example."""
    return (max_norm / (squared_norms.sqrt() + OPACUS_SLACK)).clamp(max=1.0)


def _row(labels: Tensor) -> tuple[int, int, int]:
    return len(labels), 1, labels.shape[1]
