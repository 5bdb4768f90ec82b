"""Training of one language model, plain or by Opacus with per-sample gradients; one record is one row of tokens."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Progress, silent
from ..checkpoint import Checkpoint, State
from ..recipe import Recipe, course
from ..sampling import batch_stream, skip
from ..snapshot import restore, snapshot
from ..steps import make_optimizer, require_private
from .ghost import GhostStep
from .model import LanguageModel
from .objectives import Examples, Task, example_losses, record_losses, task_of
from .per_sample import per_sample

__all__ = ["CHUNK", "PlainStep", "PrivateStep", "Watch", "per_sample", "record_losses", "tune"]

CHUNK = 64
"""Records whose per-sample gradients are held at a time."""

Watch = Callable[[int, list[Tensor]], None]
"""Called after each step with its number and the gradients that the optimizer took: clipped, summed, noised and divided
by `batch_size` under protection; one tensor a trained parameter, in the module's order."""


def tune(
    module: LanguageModel,
    tokens: NDArray[np.int64],
    inside: BoolArray,
    recipe: Recipe,
    *,
    padding: int,
    seeds: Seeds,
    device: str,
    progress: Progress = silent,
    watch: Watch | None = None,
    store: Checkpoint | None = None,
) -> int:
    """Train `module` in place on the rows of `tokens` (records, length) that are `inside`; steps taken. Resumes from
    `store` bit for bit on the CPU, but a `watch` sees only the steps taken here."""
    plan = course(recipe, inside, seeds=seeds)
    module.to(device).train()
    task = task_of(module, tokens.shape[1], padding=padding, seeds=seeds)
    run = _Run(
        module,
        torch.from_numpy(tokens).to(device),
        task,
        make_step(module, recipe, task.places, seeds, device),
        store or Checkpoint(None, ""),
    )
    stream = batch_stream(
        plan.training,
        sampling=recipe.sampling,
        batch_size=recipe.batch_size,
        sample_rate=plan.sample_rate,
        seeds=seeds,
    )
    with seeds.at("dropout").torch_scope(), warnings.catch_warnings(), contextlib.closing(run.store):
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        first = run.resume()
        skip(stream, first)
        for done in range(first, plan.steps):
            run.go(stream.take(1).positions, done)
            if watch is not None:
                watch(done, run.step.gradients())
            progress(done + 1, plan.steps)
        run.keep(plan.steps)
    module.eval()
    if not all(bool(p.isfinite().all()) for p in module.parameters()):
        raise FloatingPointError("training ended in infinite or NaN weights: lower learning_rate")
    return plan.steps


@dataclass(frozen=True, slots=True)
class _Run:
    module: LanguageModel
    held: Tensor
    task: Task
    step: Step
    store: Checkpoint

    def go(self, positions: NDArray[np.int64], done: int) -> None:
        batch = self.held[torch.from_numpy(positions).to(self.held.device)]
        self.step(self.task.examples(batch, done))
        self.store.count(1)
        if self.store.due():
            self.keep(done + 1)

    def keep(self, done: int) -> None:
        if self.store.folder is None:
            return
        tensors = snapshot(self.module, self.step.optimizer, self.step.noise, self.held.device)
        self.store.write(State(tensors, {"done": done}))

    def resume(self) -> int:
        state = self.store.read()
        if state is None:
            return 0
        restore(state.tensors, self.module, self.step.optimizer, self.step.noise, self.held.device)
        return int(state.values["done"])


def make_step(module: nn.Module, recipe: Recipe, places: int, seeds: Seeds, device: str) -> Step:
    """The step that `recipe` asks for; noise comes from `seeds.at("noise")` alone. `places` divides each record's
    summed loss."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = make_optimizer(recipe.optimizer, parameters)
    if recipe.protection is None:
        return PlainStep(module, optimizer, recipe, places)
    require_private(module)
    noise = seeds.at("noise").torch_generator(device)
    if recipe.protection.clipping == "ghost":
        return GhostStep(module, optimizer, recipe, places, noise)
    return PrivateStep(module, optimizer, recipe, places, noise)


class PlainStep:
    """Summed record losses over a constant."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, places: int) -> None:
        self.module, self.optimizer, self.places, self.divisor = module, optimizer, places, recipe.batch_size
        self.noise: torch.Generator | None = None

    def __call__(self, examples: Examples) -> None:
        """One step; an empty batch has a gradient of zero."""
        self.optimizer.zero_grad()
        for part in examples.split(4 * CHUNK):
            losses = example_losses(self.module(part.inputs), part.wanted, self.places)
            torch.autograd.backward(losses.sum() / self.divisor)
        for p in self._parameters():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        self.optimizer.step()

    def gradients(self) -> list[Tensor]:
        """What the last step gave the optimizer."""
        return [p.grad for p in self._parameters() if p.grad is not None]

    def _parameters(self) -> list[Tensor]:
        return [p for p in self.module.parameters() if p.requires_grad]


class PrivateStep:
    """Opacus `GradSampleModule` and `DPOptimizer`, a chunk of records at a time; the divisor is `batch_size`."""

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, places: int, noise: torch.Generator
    ) -> None:
        from opacus.optimizers import DPOptimizer

        assert recipe.protection is not None
        self.places = places
        self.module = per_sample(module)
        self.optimizer = optimizer
        self.noise: torch.Generator | None = noise
        self._private: Any = DPOptimizer(
            optimizer,
            noise_multiplier=recipe.protection.noise_multiplier,
            max_grad_norm=recipe.protection.max_grad_norm,
            expected_batch_size=recipe.batch_size,
            generator=noise,
        )

    def __call__(self, examples: Examples) -> None:
        """One step: every chunk is clipped and added up, noise comes once; on an empty batch it is noise alone."""
        self._private.zero_grad()
        chunks = examples.split(CHUNK)
        for number, part in enumerate(chunks):
            self._private.signal_skip_step(number + 1 < len(chunks))
            torch.autograd.backward(example_losses(self.module(part.inputs), part.wanted, self.places).sum())
            self._private.step()
            if number + 1 < len(chunks):
                self._private.zero_grad()
        if not chunks:
            for p in self._private.params:
                p.grad_sample = p.new_zeros((0, *p.shape))
            self._private.step()

    def gradients(self) -> list[Tensor]:
        """What the last step gave the optimizer: the noised mean over the public batch size."""
        return [p.grad for p in self._private.params]


Step = PlainStep | PrivateStep | GhostStep
"""Takes one optimizer step on `Examples`; `gradients()` are those that the optimizer was given."""
