"""Who sees every released gradient: each canary's own gradient against it, step after step.

The observer knows the model before fine-tuning and the optimizer, so the released gradients tell it the weights of each
step, and with them the gradient that each canary would have had. Nothing is read from the training itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...audit.seeds import Seeds
from ..steps import make_optimizer
from .adapters import with_adapters
from .canaries import TextCanaries
from .fitting import Extra, Tuning, start_of, tokenizer_of
from .objectives import record_losses
from .per_sample import per_sample

if TYPE_CHECKING:
    from typing import Any

CHUNK = 32
"""Canaries whose gradients are held at a time."""


class StepObserver:
    """A `Watch`: called after every step with the gradients that the optimizer took."""

    def __init__(self, tuning: Tuning, extra: Extra, canaries: TextCanaries, *, seeds: Seeds, device: str) -> None:
        model = start_of(tuning, extra, seeds=seeds, device=device)
        if tuning.adapters is not None:
            model = with_adapters(model, tuning.adapters, seeds.at("adapters"))
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = make_optimizer(tuning.recipe.optimizer, self._parameters)
        self._model: Any = per_sample(model.train())
        self._tokens = torch.from_numpy(canaries.tokens).to(device)
        self._padding = tokenizer_of(tuning.beginning).padding
        recipe = tuning.recipe
        self._clip = recipe.protection.max_grad_norm if recipe.protection else None
        self._divisor = recipe.batch_size
        self._seen: list[NDArray[np.float32]] = []
        self._clipped: list[float] = []

    def __call__(self, step: int, gradients: list[Tensor]) -> None:  # noqa: ARG002
        """One step: products first, at the weights before it; then the step itself, on the observer's own copy."""
        released = [g.detach().clone() for g in gradients]
        parts = [self._products(part, released) for part in torch.split(self._tokens, CHUNK)]
        products, norms = (torch.cat(column) for column in zip(*parts, strict=True))
        unit = self._clip or float(norms.median())
        self._seen.append((products * self._divisor / unit).cpu().numpy().astype(np.float32))
        self._clipped.append(float((norms > unit).double().mean()))
        for p, gradient in zip(self._parameters, released, strict=True):
            p.grad = gradient
        self._optimizer.step()

    def projections(self) -> NDArray[np.float32]:
        """(steps, canaries): products of the summed release with each canary's direction, in clipping norms. A canary
        that takes part in a step, and is clipped there, adds 1; noise has the noise multiplier as its deviation."""
        return np.stack(self._seen)

    def metrics(self) -> dict[str, float]:
        """The share of (step, canary) pairs in which the canary's gradient reaches the clipping norm."""
        return {"canaries_clipped": float(np.mean(self._clipped))}

    def _products(self, tokens: Tensor, released: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Products of `released` with each record's direction, and the norm of its gradient, (records,) each."""
        self._model.zero_grad()
        torch.autograd.backward(record_losses(self._model(tokens), tokens, self._padding).sum())
        product = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
        square = torch.zeros_like(product)
        for p, whole in zip(self._parameters, released, strict=True):
            own: Tensor = p.grad_sample.flatten(1)  # type: ignore[attr-defined]
            product += (own @ whole.flatten()).double()
            square += own.square().sum(dim=1).double()
        self._model.zero_grad()
        norm = square.sqrt().clamp_min(1e-12)
        return product / norm, norm
