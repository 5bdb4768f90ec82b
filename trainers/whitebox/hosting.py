"""Gradient canaries for the audit's runner: DP-SGD, or its unprotected twin, trained once with canaries inside."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...audit.canaries import CanarySet, Witnessed
from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Claim, Progress, Rows
from ..models import build_model
from ..recipe import Recipe
from ..steps import make_optimizer
from .canaries import GradientCanaries, slot_numbers
from .module import CanaryLoss, CanaryModel
from .recorder import Recorder
from .training import canary_loop, private_step

if TYPE_CHECKING:
    from torch import Tensor

KINDS = {"gradient-dirac": "dirac", "gradient-random": "random"}
"""Kinds of canaries that per-example training hosts."""


def canaries_of(canaries: CanarySet) -> GradientCanaries:
    """The gradient canaries asked for. `ConfigError` for a kind or view that training by example does not offer."""
    if canaries.kind not in KINDS:
        raise ConfigError(f"canaries: kind must be one of {', '.join(KINDS)}, got {canaries.kind!r}")
    if canaries.view != "steps":
        raise ConfigError(f"canaries: the observer of gradient canaries sees 'steps', got view {canaries.view!r}")
    parameters: Mapping[str, Any] = canaries.parameters
    return GradientCanaries(count=len(canaries.inside), kind=KINDS[canaries.kind], **parameters)  # type: ignore[arg-type]


def room_for(recipe: Recipe, count: int) -> Recipe:
    """The recipe with public room for `count` canaries: more rows and a larger batch at the same sampling rate, number
    of steps and noise, so that the claim of the run is the trainer's own."""
    rate, steps = recipe.sample_rate(0), recipe.steps(0)
    batch = max(1, round(rate * (recipe.size(0) + count)))
    # Rounded up, so that the rate of the run is never above the one that the claim was made for.
    rows = ceil(batch / rate - 1e-9)
    return replace(recipe, nominal_rows=rows, batch_size=batch, epochs=steps * batch / rows)


def host_gradient_canaries(
    recipe: Recipe,
    data: Rows,
    rows: BoolArray,
    canaries: CanarySet,
    claim: Claim | None,
    *,
    noise_multiplier: float,
    seeds: Seeds,
    device: str,
    progress: Progress,
) -> Witnessed:
    """Train on `data.take(rows)` and the inserted canaries; the observer sees every applied gradient.

    `transcript["projections"]` float32 (steps, canaries), in units of what one clipped canary adds. `noise_multiplier`
    is the claimed one, 0 for a twin without noise.
    """
    import torch

    crafted = canaries_of(canaries)
    real = data.take(rows)
    recipe = room_for(recipe, crafted.count)
    protection = recipe.protection
    norm = protection.max_grad_norm if protection else 1.0
    with (
        seeds.at("dropout").torch_scope(),
        warnings.catch_warnings(),
        tempfile.TemporaryDirectory(prefix="leakgauge-") as folder,
    ):
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        base = build_model(recipe.model, data.features.shape[1:], data.classes, seeds=seeds)
        model = CanaryModel(base, crafted, max_grad_norm=norm, seeds=seeds.at("directions"), device=device)
        model = model.to(device, getattr(torch, recipe.dtype)).train()
        noise = seeds.at("noise").torch_generator(device)
        step = private_step(model, recipe, noise, None) if protection else _Plain(model, recipe)
        recorder = Recorder(
            model,
            step.optimizer,
            statistics=(),
            unit=norm / recipe.batch_size,
            store=Path(folder) / "projections.npy",
            steps=recipe.steps(0),
        )
        canary_loop(step, recipe, real, slot_numbers(len(real), canaries.inside), seeds, device, progress)
        projections = np.array(recorder.transcript().projections())
    public = {
        "sample_rate": recipe.sample_rate(0),
        "steps": float(recipe.steps(0)),
        "noise_multiplier": noise_multiplier,
    }
    return Witnessed({"projections": projections}, claim, public)


class _Plain:
    """Summed loss over a constant, without clipping and noise: the twin of a private step."""

    def __init__(self, model: CanaryModel, recipe: Recipe) -> None:
        self.module, self._divisor, self._loss = model, recipe.batch_size, CanaryLoss(reduction="sum")
        self.optimizer = make_optimizer(recipe.optimizer, [p for p in model.parameters() if p.requires_grad])

    def __call__(self, features: Tensor, labels: Tensor, slots: Tensor) -> None:
        """One step; on an empty batch the gradient is zero."""
        import torch

        self.optimizer.zero_grad()
        if len(labels):
            torch.autograd.backward(self._loss(self.module(features, slots), labels) / self._divisor)
        else:
            for p in self.module.parameters():
                p.grad = torch.zeros_like(p)
        self.optimizer.step()
