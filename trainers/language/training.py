"""Next-token training of one model, plain or by Opacus with per-sample gradients; one record is one row of tokens."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Progress, silent
from ..recipe import Recipe, course
from ..sampling import batch_stream
from ..steps import make_optimizer, require_private

CHUNK = 64
"""Records whose per-sample gradients are held at a time."""


def record_losses(logits: Tensor, tokens: Tensor, padding: int) -> Tensor:
    """Mean negative log-likelihood of each record's tokens after the first, (records,).

    The sum is divided by the row's length, a constant, and not by the number of its tokens: padding weighs nothing.
    """
    losses = cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none", ignore_index=padding)
    return losses.sum(dim=1) / (tokens.shape[1] - 1)


def tune(
    module: nn.Module,
    tokens: NDArray[np.int64],
    inside: BoolArray,
    recipe: Recipe,
    *,
    padding: int,
    seeds: Seeds,
    device: str,
    progress: Progress = silent,
) -> int:
    """Train `module` in place on the rows of `tokens` (records, length) that are `inside`; steps taken."""
    plan = course(recipe, inside, seeds=seeds)
    held = torch.from_numpy(tokens).to(device)
    module.to(device).train()
    step = _step(module, recipe, padding, seeds, device)
    stream = batch_stream(
        plan.training,
        sampling=recipe.sampling,
        batch_size=recipe.batch_size,
        sample_rate=plan.sample_rate,
        seeds=seeds,
    )
    with seeds.at("dropout").torch_scope(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        for done in range(plan.steps):
            step(held[torch.from_numpy(stream.take(1).positions).to(device)])
            progress(done + 1, plan.steps)
    module.eval()
    if not all(bool(p.isfinite().all()) for p in module.parameters()):
        raise FloatingPointError("training ended in infinite or NaN weights: lower learning_rate")
    return plan.steps


def _step(module: nn.Module, recipe: Recipe, padding: int, seeds: Seeds, device: str) -> PlainStep | PrivateStep:
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = make_optimizer(recipe.optimizer, parameters)
    if recipe.protection is None:
        return PlainStep(module, optimizer, recipe, padding)
    require_private(module)
    return PrivateStep(module, optimizer, recipe, padding, seeds.at("noise").torch_generator(device))


class PlainStep:
    """Summed record losses over a constant."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, padding: int) -> None:
        self.module, self.optimizer, self.padding, self.divisor = module, optimizer, padding, recipe.batch_size

    def __call__(self, tokens: Tensor) -> None:
        """One step; an empty batch has a gradient of zero."""
        self.optimizer.zero_grad()
        for part in torch.split(tokens, 4 * CHUNK):
            losses = record_losses(self.module(part), part, self.padding)
            torch.autograd.backward(losses.sum() / self.divisor)
        for p in self.module.parameters():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        self.optimizer.step()


class PrivateStep:
    """Opacus `GradSampleModule` and `DPOptimizer`, a chunk of records at a time; the divisor is `batch_size`."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        padding: int,
        noise: torch.Generator,
    ) -> None:
        from opacus.optimizers import DPOptimizer

        assert recipe.protection is not None
        self.padding = padding
        self.module = per_sample(module)
        self.optimizer = DPOptimizer(
            optimizer,
            noise_multiplier=recipe.protection.noise_multiplier,
            max_grad_norm=recipe.protection.max_grad_norm,
            expected_batch_size=recipe.batch_size,
            generator=noise,
        )

    def __call__(self, tokens: Tensor) -> None:
        """One step: every chunk is clipped and added up, noise comes once; on an empty batch it is noise alone."""
        self.optimizer.zero_grad()
        chunks = torch.split(tokens, CHUNK) if len(tokens) else ()
        for number, part in enumerate(chunks):
            self.optimizer.signal_skip_step(number + 1 < len(chunks))
            torch.autograd.backward(record_losses(self.module(part), part, self.padding).sum())
            self.optimizer.step()
            self.optimizer.zero_grad()
        if not chunks:
            for p in self.optimizer.params:
                p.grad_sample = p.new_zeros((0, *p.shape))
            self.optimizer.step()


def per_sample(module: nn.Module) -> Any:
    """The module with Opacus's hooks, its `Conv1D` layers (GPT-2's transposed linear layers) given a direct rule.

    Tied embeddings are one parameter used by two layers: Opacus adds up both layers' gradients of each record before
    clipping. The hooks stay on `module`: train a copy where it is to be used further.
    """
    from opacus.grad_sample import GradSampleModule
    from transformers.pytorch_utils import Conv1D

    GradSampleModule.GRAD_SAMPLERS[Conv1D] = conv1d_gradients
    return GradSampleModule(module, loss_reduction="sum")


def conv1d_gradients(layer: Any, activations: list[Tensor], backprops: Tensor) -> dict[Any, Tensor]:
    """Per-record gradients of `x @ weight + bias`: activations (records, length, in), backprops (records, length,
    out)."""
    out: dict[Any, Tensor] = {}
    if layer.weight.requires_grad:
        out[layer.weight] = torch.einsum("nli,nlo->nio", activations[0], backprops)
    if layer.bias.requires_grad:
        out[layer.bias] = backprops.sum(dim=1)
    return out
