"""Parts of the training loop around the optimizer: what an entry puts in the place of the right one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ...trainers.whitebox import CanaryLoss
from .opacus_trainer import WIDTH, Fit, private_batch
from .table import Table


def accumulate_without_noise(fit: Fit, features: Tensor, labels: Tensor, slots: Tensor) -> None:
    """Splits the batch in two; the first half is clipped and stepped at once, the noise comes with the second."""
    half = len(labels) // 2
    optimizer = fit.optimizer
    if half:
        optimizer.zero_grad()
        loss: Any = CanaryLoss()(fit.module(features[:half], slots[:half]), labels[:half])
        loss.backward()
        optimizer.clip_and_accumulate()
        for p in optimizer.params:
            p.grad = p.summed_grad.view_as(p) / optimizer.expected_batch_size
        optimizer.original_optimizer.step()
    private_batch(fit, features[half:], labels[half:], slots[half:])


def forget_history(fit: Fit) -> None:
    """Each epoch resumes from a checkpoint that has the weights but not the accountant's history.

    What the last epoch added stays: the user reads the accountant at the end.
    """
    history = fit.engine.accountant.history
    steps = sum(n for _, _, n in history)
    per_epoch = len(fit.loader)
    if steps > per_epoch:
        noise, rate, _ = history[-1]
        fit.engine.accountant.history = [(noise, rate, per_epoch)]


def stop_on_holdout(fit: Fit) -> None:
    """Keeps the epoch with the least loss on the holdout, without noise."""
    _remember_best(fit, fit.holdout)


def stop_on_public(fit: Fit) -> None:
    """The right way: keeps the epoch with the least loss on public rows."""
    _remember_best(fit, fit.public)


def scale_by_training_rows(fit: Fit) -> None:
    """Standardises features by the mean and deviation of the private rows."""
    _put_scaler(fit, fit.training)


def scale_by_public_rows(fit: Fit) -> None:
    """The right way."""
    _put_scaler(fit, fit.public)


def batch_normalised() -> nn.Module:
    """Batch statistics without parameters or buffers: nothing that `GradSampleModule` would object to."""
    return nn.Sequential(nn.BatchNorm1d(WIDTH, affine=False, track_running_stats=False), nn.Linear(WIDTH, 2))


def group_normalised() -> nn.Module:
    """The right way: statistics of one example."""
    return nn.Sequential(nn.GroupNorm(2, WIDTH, affine=False), nn.Linear(WIDTH, 2))


def _put_scaler(fit: Fit, table: Table) -> None:
    features = table.features()
    mean, deviation = features.mean(0), features.std(0).clamp(min=1e-6)
    fit.model.base.register_forward_pre_hook(lambda _, inputs: ((inputs[0] - mean) / deviation,))


def _remember_best(fit: Fit, table: Table) -> None:
    with torch.no_grad():
        loss = float(cross_entropy(fit.model.base(table.features()), table.labels()))
    epoch = fit.inner_steps // len(fit.loader)
    if fit.best is None or loss < fit.best[1]:
        fit.best = (epoch, loss)
