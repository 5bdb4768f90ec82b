"""DP-SGD as the product trains it (Opacus hooks or ghost clipping, fixed divisor), with gradient canaries inside."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...audit.accounting import dp_sgd_claim
from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Claim, Membership, Progress, Rows, silent
from ..dpsgd import DpSgd
from ..models import build_model
from ..promise import ASSUMES
from ..recipe import Recipe
from ..sampling import batch_stream
from ..steps import make_optimizer, require_private
from ..tensors import feature_tensor, label_tensor
from .canaries import GradientCanaries, slot_numbers
from .module import CanaryLoss, CanaryModel
from .recorder import Recorder, Statistic, Transcript

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

BLOCK = 64
"""Steps whose batches are drawn ahead."""


class OptimizerFactory(Protocol):
    """Wraps a torch optimizer with clipping and noise: Opacus's, or a variant under test."""

    def __call__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: int,
        generator: torch.Generator,
    ) -> Any:
        """An optimizer with the interface of `opacus.optimizers.DPOptimizer`."""


class CanaryStep(Protocol):
    """Moves a canary model by one step on a batch, which may be empty."""

    optimizer: Any

    def __call__(self, features: Tensor, labels: Tensor, slots: Tensor) -> None:
        """One step."""


@dataclass(frozen=True, slots=True)
class CanaryRun:
    """One audited training run: what the adversary saw, the truth, the claim from the steps that really ran, and the
    base model, canary layer removed."""

    transcript: Transcript
    membership: Membership
    claim: Claim
    module: nn.Module

    @property
    def inside(self) -> BoolArray:
        """(canaries,) the coins."""
        coins: BoolArray = self.membership.inside[0]
        return coins


def train_with_canaries(
    trainer: DpSgd,
    data: Rows,
    canaries: GradientCanaries,
    *,
    statistics: Sequence[Statistic],
    seeds: Seeds,
    device: str,
    store: Path | None = None,
    progress: Progress = silent,
    make_private: OptimizerFactory | None = None,
) -> CanaryRun:
    """Train on all of `data` and on `canaries`, each inserted by its own fair coin from `seeds.at("coins")`.

    Sampling rate, steps, noise and divisor are the trainer's, from its public `nominal_rows`, and the training set has
    `len(data) + canaries.count` rows whatever the coins say: an excluded canary is a row with zero gradient. `store`
    keeps all projections in a file (4 bytes a canary and step). `make_private` replaces Opacus's `DPOptimizer` (hooks
    clipping only), for broken variants; the claim stays the trainer's.
    """
    recipe = trainer.recipe()
    membership = canaries.coins(seeds=seeds.at("coins"))
    with seeds.at("dropout").torch_scope(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        model = _canary_model(recipe, data, canaries, seeds=seeds, device=device)
        step = private_step(model, recipe, seeds.at("noise").torch_generator(device), make_private)
        assert recipe.protection is not None
        recorder = Recorder(
            model,
            step.optimizer,
            statistics=statistics,
            unit=recipe.protection.max_grad_norm / recipe.batch_size,
            store=store,
            steps=recipe.steps(0),
        )
        canary_loop(step, recipe, data, slot_numbers(len(data), membership.inside[0]), seeds, device, progress)
    transcript = recorder.transcript()
    return CanaryRun(transcript, membership, _claim(trainer, recipe, transcript.steps), model.base.eval())


def _canary_model(recipe: Recipe, data: Rows, canaries: GradientCanaries, *, seeds: Seeds, device: str) -> CanaryModel:
    import torch

    base = build_model(recipe.model, data.features.shape[1:], data.classes, seeds=seeds)
    require_private(base)
    assert recipe.protection is not None
    norm = recipe.protection.max_grad_norm
    model = CanaryModel(base, canaries, max_grad_norm=norm, seeds=seeds.at("directions"), device=device)
    return model.to(device, getattr(torch, recipe.dtype)).train()


def canary_loop(
    step: CanaryStep, recipe: Recipe, data: Rows, slots: Any, seeds: Seeds, device: str, progress: Progress
) -> None:
    """All steps of `recipe` on Poisson samples of real and canary rows alike."""
    import torch

    dtype = getattr(torch, recipe.dtype)
    # Position -1 is one blank row behind the data, the features of every canary.
    blank = np.zeros((1, *data.features.shape[1:]), data.features.dtype)
    features = feature_tensor(np.concatenate([data.features, blank]), dtype=dtype, device=device)
    labels = label_tensor(np.append(data.labels, 0), device=device)
    numbers = torch.from_numpy(slots).to(device)
    total = recipe.steps(0)
    stream = batch_stream(
        np.arange(len(slots)),
        sampling="poisson",
        batch_size=recipe.batch_size,
        sample_rate=recipe.sample_rate(0),
        seeds=seeds,
    )
    for start in range(0, total, BLOCK):
        for batch in stream.take(min(BLOCK, total - start)).each():
            rows = torch.from_numpy(np.minimum(batch, len(data))).to(device)
            step(features[rows], labels[rows], numbers[torch.from_numpy(batch).to(device)])
        progress(min(start + BLOCK, total), total)


class _Hooks:
    """Opacus `GradSampleModule` and `DPOptimizer`."""

    def __init__(
        self, model: CanaryModel, recipe: Recipe, noise: torch.Generator, make_private: OptimizerFactory | None
    ) -> None:
        from opacus.grad_sample import GradSampleModule
        from opacus.optimizers import DPOptimizer

        protection = recipe.protection
        assert protection is not None
        self.module = GradSampleModule(model, loss_reduction="sum")
        self.optimizer = (make_private or DPOptimizer)(
            make_optimizer(recipe.optimizer, [p for p in model.parameters() if p.requires_grad]),
            noise_multiplier=protection.noise_multiplier,
            max_grad_norm=protection.max_grad_norm,
            expected_batch_size=recipe.batch_size,
            generator=noise,
        )
        self._loss = CanaryLoss(reduction="sum")

    def __call__(self, features: Tensor, labels: Tensor, slots: Tensor) -> None:
        """One step; on an empty batch it is noise alone."""
        import torch

        self.optimizer.zero_grad()
        if len(labels):
            torch.autograd.backward(self._loss(self.module(features, slots), labels))
        else:
            for p in self.optimizer.params:
                p.grad_sample = p.new_zeros((0, *p.shape))
        self.optimizer.step()


class _Ghost:
    """Opacus ghost clipping."""

    def __init__(self, model: CanaryModel, recipe: Recipe, noise: torch.Generator) -> None:
        from opacus.grad_sample import GradSampleModuleFastGradientClipping
        from opacus.optimizers import DPOptimizerFastGradientClipping
        from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

        protection = recipe.protection
        assert protection is not None
        self.module = GradSampleModuleFastGradientClipping(
            model, max_grad_norm=protection.max_grad_norm, use_ghost_clipping=True
        )
        self.optimizer = DPOptimizerFastGradientClipping(
            make_optimizer(recipe.optimizer, [p for p in model.parameters() if p.requires_grad]),
            noise_multiplier=protection.noise_multiplier,
            max_grad_norm=protection.max_grad_norm,
            expected_batch_size=recipe.batch_size,
            generator=noise,
        )
        self._loss = DPLossFastGradientClipping(self.module, self.optimizer, CanaryLoss())

    def __call__(self, features: Tensor, labels: Tensor, slots: Tensor) -> None:
        """One step; on an empty batch it is noise alone."""
        import torch

        self.optimizer.zero_grad()
        if len(labels):
            self._loss(self.module(features, slots), labels).backward()
        else:
            for p in self.optimizer.params:
                p.grad = torch.zeros_like(p)
        self.optimizer.step()


def private_step(
    model: CanaryModel, recipe: Recipe, noise: torch.Generator, make_private: OptimizerFactory | None
) -> CanaryStep:
    """The private step that the recipe's clipping asks for."""
    assert recipe.protection is not None
    if recipe.protection.clipping == "hooks":
        return _Hooks(model, recipe, noise, make_private)
    if make_private is not None:
        raise ConfigError("make_private replaces the optimizer of clipping 'hooks'; the trainer asks for 'ghost'")
    return _Ghost(model, recipe, noise)


def _claim(trainer: DpSgd, recipe: Recipe, steps: int) -> Claim:
    assert recipe.protection is not None
    return _account(recipe.protection.noise_multiplier, recipe.sample_rate(0), steps, trainer.delta)


# Accounting takes seconds, and repeated audits ask the same of it every time.
@lru_cache(maxsize=64)
def _account(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> Claim:
    return dp_sgd_claim(
        noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps, delta=delta, assumes=ASSUMES
    )
