"""Many models of one architecture trained in one program, equal to rounding to training them one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...audit.types import Job, Progress, Rows, silent
from ..checkpoint import Checkpoint
from ..models import build_model
from ..recipe import Recipe, course, identity
from ..single import Fitted, fit_single
from ..steps import require_private
from ..tensors import feature_tensor, label_tensor
from .dense import dense_engine
from .engine import Engine
from .functional import functional_engine
from .layers import layer_engine
from .loop import Stack

if TYPE_CHECKING:
    from torch import Tensor, nn

BYTES = {"cpu": 24 << 20, "cuda": 4 << 30}
"""Working memory of one chunk of models. On the CPU this is about the last-level cache: larger stacks are slower."""


def fit_stack(
    recipe: Recipe,
    data: Rows,
    jobs: Sequence[Job],
    *,
    device: str,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> list[Fitted]:
    """One model per job, each as `fit_single` makes it, to rounding.

    Hand-batched layers where the architecture allows, `torch.func` where it does not, one after another for the rest
    (buffers, random numbers in a module that is not sequential). Models are cut into chunks of bounded memory; the cut
    depends on the recipe, the data's shape, the number of jobs and the kind of device only.
    """
    import torch

    if not jobs:
        return []
    dtype = getattr(torch, recipe.dtype)
    features, labels = (
        feature_tensor(data.features, dtype=dtype, device=device),
        label_tensor(data.labels, device=device),
    )
    modules = [build_model(recipe.model, data.features.shape[1:], data.classes, seeds=job.seeds) for job in jobs]
    if dtype != torch.float32 or device != "cpu":
        modules = [module.to(device, dtype) for module in modules]
    modules[0].train()
    private = recipe.protection is not None
    if private:
        require_private(modules[0])
    if _engine(modules[:1], features, private=private) is None:
        return _one_by_one(recipe, data, jobs, device, checkpoint, progress)
    courses = [course(recipe, job.inside, seeds=job.seeds) for job in jobs]
    total, done = sum(c.steps for c in courses), 0
    size = _chunk_size(recipe, modules[0], features, device)
    fitted: list[Fitted] = []
    for number, part in enumerate(np.array_split(np.arange(len(jobs)), -(-len(jobs) // size))):
        chunk = slice(int(part[0]), int(part[-1]) + 1)
        store = _store(recipe, data, jobs[chunk], checkpoint, f"chunk-{number}")
        engine = _engine(modules[chunk], features, private=private)
        assert engine is not None
        stack = Stack.start(recipe, jobs[chunk], courses[chunk], engine, labels)
        _train(stack, store, partial(_report, progress, done, total))
        done += sum(c.steps for c in courses[chunk])
        fitted += stack.results(modules[chunk])
    progress(total, total)
    return fitted


def _train(stack: Stack, store: Checkpoint, progress: Callable[[int], None]) -> None:
    if (state := store.read()) is not None:
        stack.restore(state)
    try:
        stack.train(store, progress)
    finally:
        store.close()


def _report(progress: Progress, before: int, total: int, now: int) -> None:
    progress(before + now, total)


def _engine(modules: Sequence[nn.Module], features: Tensor, *, private: bool) -> Engine | None:
    return (
        dense_engine(modules, features, private=private)
        or layer_engine(modules, features)
        or functional_engine(modules, features)
    )


def _store(recipe: Recipe, data: Rows, jobs: Sequence[Job], folder: Path | None, name: str) -> Checkpoint:
    return Checkpoint(folder, identity(recipe, data, [(j.inside, j.seeds) for j in jobs]) if folder else "", name)


def _one_by_one(
    recipe: Recipe, data: Rows, jobs: Sequence[Job], device: str, checkpoint: Path | None, progress: Progress
) -> list[Fitted]:
    fitted = []
    for number, job in enumerate(jobs):
        folder = None if checkpoint is None else checkpoint / str(number)
        fitted.append(fit_single(recipe, data, job.inside, seeds=job.seeds, device=device, checkpoint=folder))
        progress(number + 1, len(jobs))
    return fitted


def _chunk_size(recipe: Recipe, module: nn.Module, features: Tensor, device: str) -> int:
    """How many models fit the working memory, by parameters and by what one example leaves in each layer."""
    parameters = sum(p.numel() for p in module.parameters())
    per_example = _activations(module, features[:1])
    if recipe.protection is not None and layer_engine([module], features) is None:
        per_example += 2 * parameters
    values = 4 * parameters + recipe.batch_size * per_example
    budget = BYTES["cuda" if device.startswith("cuda") else "cpu"]
    return max(1, budget // (values * next(module.parameters()).element_size()))


def _activations(module: nn.Module, example: Tensor) -> int:
    """Numbers held per example in a forward and backward pass: inputs, outputs, their gradients, patches."""
    import torch
    from torch import nn

    held = 0

    def count(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal held
        held += 2 * output.numel()
        if isinstance(layer, nn.Conv2d):
            held += 2 * output[0, 0].numel() * layer.weight[0].numel()

    leaves = [m for m in module.modules() if not list(m.children())]
    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    was_training = module.training
    module.eval()
    with torch.no_grad():
        module(example)
    module.train(was_training)
    for hook in hooks:
        hook.remove()
    return held + example.numel()
