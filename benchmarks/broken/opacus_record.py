"""What the static checks are told, read off the objects of a run and not off what the entry calls itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from opacus.data_loader import DPDataLoader
from opacus.optimizers import AdaClipDPOptimizer, DPOptimizer
from opacus.utils.uniform_sampler import UniformWithReplacementSampler
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler, WeightedRandomSampler

from ...audit.checks import Clipping, Divisor, ParameterRecord, Sampler, TrainingRecord
from ...audit.checks.module import layer_names
from ...audit.seeds import Seeds
from ...audit.types import Adjacency
from .opacus_trainer import Fit, OpacusTrainer, Scale
from .optimizers import Guarded


def record_of(trainer: OpacusTrainer, fit: Fit, scale: Scale, *, seeds: Seeds) -> TrainingRecord:
    """The record of a finished run. What an overridden method does is not guessed: the field stays None."""
    history = fit.engine.accountant.history
    protected = {*fit.training.records, *fit.holdout.records}
    private_reads = [purpose for purpose, read in fit.log.records.items() if read & protected]
    return TrainingRecord(
        claim=trainer.claim(fit),
        accountant=fit.engine.accountant.mechanism(),
        # Opacus's accountants know no other pair of data sets and no other sampler.
        accountant_adjacency=Adjacency.ADD_REMOVE,
        sampler_accounted=Sampler.POISSON,
        sampler_real=sampler_of(fit.loader),
        sample_rate_accounted=max(rate for _, rate, _ in history),
        sample_rate_real=sample_rate_of(fit.loader),
        steps_accounted=sum(steps for _, _, steps in history),
        steps_real=fit.inner_steps,
        steps_with_noise=len(fit.noise_states),
        noise_multiplier_accounted=min(noise for noise, _, _ in history),
        parameters=_parameters(fit),
        clipping=Clipping.UNIT if as_released(fit.optimizer, "clip_and_accumulate") else None,
        clip_adaptive=len(set(fit.norms)) > 1,
        clip_budgeted=isinstance(fit.optimizer, AdaClipDPOptimizer) and fit.optimizer.unclipped_num_std > 0,
        divisor=_divisor(trainer, fit, scale, seeds),
        weights_bounded=True if as_released(fit.optimizer, "clip_and_accumulate") else None,
        noise_seeds=tuple(fit.noise_states),
        units_per_record=max(Counter(fit.training.records).values()),
        modules=layer_names(fit.model),
        fitted_on_private=tuple(p for p in private_reads if p == "preprocessing"),
        selected_on_private=tuple(p for p in private_reads if p == "selection"),
    )


def as_released(optimizer: Any, method: str) -> bool:
    """Whether `method` is Opacus's own or the guarded one."""
    return getattr(type(optimizer), method) in {getattr(DPOptimizer, method), getattr(Guarded, method)}


def sampler_of(loader: Any) -> Sampler | None:
    """By the class of the loader's sampler; None for one that is not known."""
    batches = loader.batch_sampler
    if isinstance(batches, UniformWithReplacementSampler):
        return Sampler.POISSON
    if not isinstance(batches, BatchSampler):
        return None
    if isinstance(batches.sampler, WeightedRandomSampler):
        return Sampler.WEIGHTED
    if isinstance(batches.sampler, RandomSampler):
        return Sampler.FIXED_SIZE if batches.sampler.replacement else Sampler.SHUFFLE
    return Sampler.FIXED_SIZE if isinstance(batches.sampler, SequentialSampler) else None


def sample_rate_of(loader: Any) -> float:
    """The chance of a row to be in a batch."""
    if isinstance(loader, DPDataLoader):
        return float(loader.sample_rate)
    return float(loader.batch_sampler.batch_size) / len(loader.dataset)


def sampling_streams(samplers: list[Any], draws: int = 20) -> int:
    """How many different sequences of places in a worker's own share of the rows these samplers, one a worker, draw."""
    drawn = []
    for sampler in samplers:
        batches = iter(sampler)
        # Worker r of w holds rows r, r + w, r + 2 w, ...: the place of row i is i // w.
        places = [np.sort(np.asarray(batch)) // len(samplers) for batch, _ in zip(batches, range(draws), strict=False)]
        drawn.append(tuple(tuple(batch.tolist()) for batch in places))
    return len(set(drawn))


def _parameters(fit: Fit) -> tuple[ParameterRecord, ...] | None:
    """Noise and clipping of every trained parameter, if the optimizer's methods are the known ones."""
    if not as_released(fit.optimizer, "add_noise"):
        return None
    private = {id(p) for p in fit.optimizer.params}
    return tuple(
        ParameterRecord(name, fit.optimizer.noise_multiplier if id(p) in private else 0.0, id(p) in private)
        for name, p in fit.model.named_parameters()
        if p.requires_grad
    )


def _divisor(trainer: OpacusTrainer, fit: Fit, scale: Scale, seeds: Seeds) -> Divisor | None:
    """Set the same training up with one row less: a divisor that changes follows the private number of rows."""
    if not as_released(fit.optimizer, "scale_grad"):
        return None
    neighbour = trainer.build(scale, seeds=seeds.at("neighbour"), fewer_rows=1)
    same = neighbour.optimizer.expected_batch_size == fit.optimizer.expected_batch_size
    return Divisor.PUBLIC if same else Divisor.PRIVATE_ROWS
