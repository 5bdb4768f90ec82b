"""A model, a loss and a data set with canaries added, for any training loop that Opacus makes private."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from torch.utils.data import Dataset

from ...audit.errors import IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray
from .canaries import REAL, GradientCanaries, slot_numbers

Outputs = tuple[Tensor, Tensor, Tensor]
"""Of a batch: the model's output, the canary term of the loss (batch,), and which rows are real (batch,) bool."""


class CanaryModel(nn.Module):
    """`base` beside a linear layer that only canaries touch: canary v adds `strength * max_grad_norm * <weight, v>` to
    the loss, so its gradient is that multiple of v at every step, whatever the weights. Nothing else reaches the layer.
    """

    def __init__(
        self, base: nn.Module, canaries: GradientCanaries, *, max_grad_norm: float, seeds: Seeds, device: str
    ) -> None:
        super().__init__()
        self.base, self.canaries = base, canaries
        self.scale = canaries.strength * max_grad_norm
        self.head = nn.Linear(canaries.width, 1, bias=False, device=device)
        nn.init.zeros_(self.head.weight)
        # No buffer: Opacus would take it for state that training changes.
        self._directions = canaries.directions(seeds=seeds, device=device)

    def forward(self, features: Tensor, slots: Tensor) -> Outputs:
        """`slots` (batch,) are slot numbers; the base model sees every row, canaries too, but learns from real ones."""
        inserted = slots >= 0
        if self._directions is None:
            vectors = one_hot(slots.clamp(min=0), self.canaries.width).to(self.head.weight.dtype)
        else:
            vectors = self._directions[slots.clamp(min=0)].to(self.head.weight.dtype)
        value = self.head(vectors * inserted.unsqueeze(1)).squeeze(1) * self.scale
        return self.base(features), value, slots == REAL

    def project(self, gradient: Tensor) -> Tensor:
        """Projections (count,) of a gradient of the layer's weight on every canary's direction."""
        flat = gradient.detach().reshape(-1)
        return flat if self._directions is None else self._directions.to(flat.dtype) @ flat


class CanaryLoss:
    """The base loss of real rows and the canary term of the others; called with `CanaryModel`'s outputs and labels.

    `per_example` maps base outputs and labels to losses (batch,). `reduction` as in torch; Opacus's ghost clipping sets
    it to "none".
    """

    def __init__(
        self,
        per_example: Callable[[Tensor, Tensor], Tensor] | None = None,
        reduction: Literal["mean", "sum", "none"] = "mean",
    ) -> None:
        self.reduction: str = reduction
        self._per_example = per_example or _cross_entropy

    def __call__(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The loss, or the losses (batch,)."""
        base, value, real = outputs
        each = self._per_example(base, labels)
        if each.shape != value.shape:
            raise IncompatibleError(
                f"the loss gave shape {tuple(each.shape)} for {len(value)} rows: per_example must return one loss a row"
            )
        each = torch.where(real, each, 0.0) + value
        if self.reduction == "none":
            return each
        return each.sum() if self.reduction == "sum" else each.mean()


class CanaryDataset(Dataset[tuple[Any, ...]]):
    """`base`, items (features, label), followed by one row a canary; items become (features, label, slot).

    Canary rows have zero features and the first row's kind of label; the loss never reads either. The length does not
    depend on the coins `inside` (canaries,).
    """

    def __init__(self, base: Dataset[tuple[Any, ...]], inside: BoolArray) -> None:
        self.base = base
        self._rows = len(cast("Any", base))
        if not self._rows:
            raise IncompatibleError("the data set is empty: canaries need the shape of a real row")
        self._slots = slot_numbers(self._rows, inside)
        features, label = base[0][:2]
        self._blank = (torch.zeros_like(torch.as_tensor(features)), torch.zeros_like(torch.as_tensor(label)))

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        features, label = self.base[index][:2] if index < self._rows else self._blank
        return features, label, int(self._slots[index])


def _cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(outputs, labels, reduction="none")
