"""Parts of the training loop around the optimizer: what an entry puts in the place of the right one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ...audit.seeds import Seeds
from ...trainers.whitebox import CanaryLoss
from .opacus_trainer import WIDTH, Fit, private_batch

VALIDATION_ROWS = 20
HOLDOUT = tuple(f"holdout-{i}" for i in range(VALIDATION_ROWS))
"""Rows of the protected table that are not trained on: the claim is made for them too."""
PUBLIC = tuple(f"public-{i}" for i in range(VALIDATION_ROWS))


def accumulate_without_noise(fit: Fit, features: Tensor, labels: Tensor, slots: Tensor) -> None:
    """Splits the batch in two; the first half is clipped and stepped at once, the noise comes with the second."""
    half = len(labels) // 2
    optimizer = fit.optimizer
    if half:
        optimizer.zero_grad()
        CanaryLoss()(fit.module(features[:half], slots[:half]), labels[:half]).backward()
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
    _remember_best(fit, HOLDOUT)


def stop_on_public(fit: Fit) -> None:
    """The right way: keeps the epoch with the least loss on public rows."""
    _remember_best(fit, PUBLIC)


def scale_by_training_rows(fit: Fit) -> None:
    """Standardises features by the mean and deviation of the private rows."""
    fit.read("scaler", fit.records)
    rows = torch.stack([fit.loader.dataset[i][0] for i in range(len(fit.records))])
    _put_scaler(fit, rows.mean(0), rows.std(0).clamp(min=1e-6))


def scale_by_public_rows(fit: Fit) -> None:
    """The right way."""
    fit.read("scaler", PUBLIC)
    rows = _validation(PUBLIC)[0]
    _put_scaler(fit, rows.mean(0), rows.std(0).clamp(min=1e-6))


def batch_normalised() -> nn.Module:
    """Batch statistics without parameters or buffers: nothing that `GradSampleModule` would object to."""
    return nn.Sequential(nn.BatchNorm1d(WIDTH, affine=False, track_running_stats=False), nn.Linear(WIDTH, 2))


def group_normalised() -> nn.Module:
    """The right way: statistics of one example."""
    return nn.Sequential(nn.GroupNorm(2, WIDTH, affine=False), nn.Linear(WIDTH, 2))


def _put_scaler(fit: Fit, mean: Tensor, deviation: Tensor) -> None:
    fit.model.base.register_forward_pre_hook(lambda _, inputs: ((inputs[0] - mean) / deviation,))


def _remember_best(fit: Fit, records: tuple[str, ...]) -> None:
    fit.read("epoch", records)
    features, labels = _validation(records)
    with torch.no_grad():
        loss = float(cross_entropy(fit.model.base(features), labels))
    epoch = fit.inner_steps // len(fit.loader)
    if fit.best is None or loss < fit.best[1]:
        fit.best = (epoch, loss)


def _validation(records: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    generator = Seeds(0).at("validation", records[0]).torch_generator()
    features = torch.randn(len(records), WIDTH, generator=generator)
    return features, torch.randint(0, 2, (len(records),), generator=generator)
