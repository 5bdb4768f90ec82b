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
from .functional import FunctionalEngine, functional_engine
from .layers import layer_engine
from .loop import Stack
from .memory import chunk_size

if TYPE_CHECKING:
    from torch import Tensor, nn


def fit_stack(
    recipe: Recipe,
    data: Rows,
    jobs: Sequence[Job],
    *,
    device: str,
    checkpoint: Path | None = None,
    progress: Progress = silent,
    memory: int | None = None,
) -> list[Fitted]:
    """One model per job, each as `fit_single` makes it, to rounding.

    Hand-batched layers where the architecture allows, `torch.func` where it does not, one after another for the rest
    (buffers, random numbers in a module that is not sequential). Models are cut into chunks of `memory` bytes (None:
    see `memory.BYTES`); the cut depends on the recipe, the data's shape, the number of jobs and the machine only.
    """
    import torch

    if not jobs:
        return []
    dtype = getattr(torch, recipe.dtype)
    features, labels = (
        feature_tensor(data.features, dtype=dtype, device=device),
        label_tensor(data.labels, device=device),
    )
    modules = [_built(recipe, data, jobs[0], device)]
    modules[0].train()
    private = recipe.protection is not None
    if private:
        require_private(modules[0])
    first = _engine(modules[:1], features, private=private)
    if first is None:
        return _one_by_one(recipe, data, jobs, device, checkpoint, progress)
    size = chunk_size(recipe, first, device=device, budget=memory)
    # Each example's gradient of a large model, one model at a time: Opacus does that with less.
    if private and size == 1 and isinstance(first, FunctionalEngine):
        return _one_by_one(recipe, data, jobs, device, checkpoint, progress)
    modules += [_built(recipe, data, job, device) for job in jobs[1:]]
    courses = [course(recipe, job.inside, seeds=job.seeds) for job in jobs]
    total, done = sum(c.steps for c in courses), 0
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


def _built(recipe: Recipe, data: Rows, job: Job, device: str) -> nn.Module:
    import torch

    module = build_model(recipe.model, data.features.shape[1:], data.classes, seeds=job.seeds)
    dtype = getattr(torch, recipe.dtype)
    return module if dtype == torch.float32 and device == "cpu" else module.to(device, dtype)


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
