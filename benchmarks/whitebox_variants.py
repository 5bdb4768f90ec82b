"""Optimizers that break DP-SGD in one way each, for the white-box benchmark: wrapped like Opacus's `DPOptimizer`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Variant = Callable[..., Any]


def no_noise(optimizer: torch.optim.Optimizer, **settings: Any) -> Any:
    """Clips, and forgets the noise."""
    from opacus.optimizers import DPOptimizer

    return DPOptimizer(optimizer, **(settings | {"noise_multiplier": 0.0}))


def half_noise(optimizer: torch.optim.Optimizer, **settings: Any) -> Any:
    """Adds half of the noise that is accounted for."""
    from opacus.optimizers import DPOptimizer

    return DPOptimizer(optimizer, **(settings | {"noise_multiplier": settings["noise_multiplier"] / 2}))


def no_clipping(optimizer: torch.optim.Optimizer, **settings: Any) -> Any:
    """Adds the right noise to gradients that were never clipped."""
    from opacus.optimizers import DPOptimizer

    beyond = 1e12
    noise = settings["noise_multiplier"] * settings["max_grad_norm"] / beyond
    return DPOptimizer(optimizer, **(settings | {"max_grad_norm": beyond, "noise_multiplier": noise}))


def unprotected(optimizer: torch.optim.Optimizer, **settings: Any) -> Any:
    """Neither clips nor adds noise: the positive control."""
    return no_clipping(optimizer, **(settings | {"noise_multiplier": 0.0}))


def mean_clipped(optimizer: torch.optim.Optimizer, **settings: Any) -> Any:
    """Clips the mean gradient of the batch instead of each example's, with noise sigma C / B on it."""
    from opacus.optimizers import DPOptimizer

    class MeanClipped(DPOptimizer):  # type: ignore[misc]
        def clip_and_accumulate(self) -> None:
            """The batch's mean, clipped as one vector; times B, because the division follows."""
            from opacus.optimizers.optimizer import _mark_as_processed

            samples = self.grad_samples
            means = [g.sum(0) / max(1, len(g)) for g in samples]
            norm = sum(float(m.square().sum()) for m in means) ** 0.5
            factor = min(1.0, self.max_grad_norm / (norm + 1e-6)) * self.expected_batch_size
            for p, mean in zip(self.params, means, strict=True):
                p.summed_grad = mean * factor
                _mark_as_processed(p.grad_sample)

    return MeanClipped(optimizer, **settings)
