"""A whole federated training: from rows to a model and a transcript, or to what canaries left in a view."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...audit.canaries import CanarySet, Witnessed
from ...audit.errors import ConfigError, IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Progress, Rows, Trained, silent
from ..checkpoint import Checkpoint
from ..models import build_model
from ..targets import TorchTarget
from ..tensors import feature_tensor, fit_quality, label_tensor
from .canaries import STRENGTH, CanaryClients, Projections, check_kind, directions, public_facts
from .cohort import draw_cohort, draw_survivors
from .layout import Flat, dimension, read_buffers, read_parameters, write_buffers, write_parameters
from .local import local_update
from .partition import Partition, partition_rows
from .protection import View
from .recipe import FederatedRecipe, identity
from .rounds import Federation, Observer, Schedule
from .sending import RoundSum
from .server import Floats, ServerState
from .stack import LocalTrainer
from .views import ViewRecorder
from .wire import dense_figures

if TYPE_CHECKING:
    from torch import nn

NATURAL_ROUNDS, NATURAL_UPDATES = 3, 256
"""Rounds and updates from which crafted canaries learn where natural updates lie."""


def fit_federated(
    recipe: FederatedRecipe,
    data: Rows,
    rows: BoolArray,
    *,
    delta: float | None,
    seeds: Seeds,
    device: str,
    checkpoint: Path | None,
) -> Trained:
    """Train on `data.take(rows)`; the claim and the transcript are those of `recipe.view`.

    Raises `ConfigError` without any training row where nothing protects, `IncompatibleError` for a model whose buffers
    would travel past the protection, `FloatingPointError` when training ended in infinite weights.
    """
    local, schedule = prepare_training(recipe, data, rows, seeds=seeds, device=device)
    recorder = recorder_of(recipe, schedule, local, seeds, None if checkpoint is None else checkpoint / "transcript")
    federation = _federation(recipe, schedule, local, seeds, [recorder])
    store = Checkpoint(checkpoint, identity(recipe, data, rows, seeds) if checkpoint else "")
    if (state := store.read()) is not None:
        federation.restore(state)
        recorder.rewind(federation.done, federation.counts["sent"])
    try:
        federation.run(store)
        store.write(federation.checkpoint())
    finally:
        store.close()
    module = _finished(federation)
    claim = None if delta is None else recipe.claim(recipe.view, delta)
    metrics = _metrics(federation, local, rows)
    return Trained(module, TorchTarget(module, device), claim, federation.done, metrics, recorder.transcript())


def fit_canaries(
    recipe: FederatedRecipe,
    data: Rows,
    rows: BoolArray,
    canaries: CanarySet,
    *,
    delta: float | None,
    seeds: Seeds,
    device: str,
    progress: Progress = silent,
    federation: type[Federation] = Federation,
) -> Witnessed:
    """Train on `data.take(rows)` and the canaries whose coin is true; what the view of `canaries` shows of them.

    `federation` replaces the mechanism, for broken variants; the claim stays the recipe's.
    """
    check_kind(canaries)
    view, count = cast("View", canaries.view), len(canaries.inside)
    present = len(partition_rows(data, recipe.partition).clients)
    claim = None if delta is None else recipe.claim(view, delta)
    watched = recipe.with_canaries(present, count, view)
    local, _ = prepare_training(watched, data, rows, seeds=seeds, device=device)
    schedule = watched.schedule(present, count)
    law = "gaussian" if watched.protection is None else watched.protection.law
    drawn = directions(
        canaries,
        dimension(local.module),
        law=law,
        natural=lambda: natural_updates(watched, data, rows, seeds=seeds.at("natural"), device=device),
        seeds=seeds.at("canaries"),
    )
    adaptive = watched.protection is not None and watched.protection.adaptive is not None
    strength = float(canaries.parameters.get("strength", STRENGTH))
    guests = CanaryClients(drawn, canaries.inside, strength, law, adaptive)
    observer = Projections(view, guests, schedule)
    run = _federation(watched, schedule, local, seeds, [observer], federation)
    run.guests = guests
    run.run(progress=progress)
    metrics = _metrics(run, local, rows)
    return Witnessed(observer.transcript(), claim, public_facts(watched.protection, schedule, view, count), metrics)


def client_update(
    recipe: FederatedRecipe, model: nn.Module, rows: Rows, weights: Flat, *, seeds: Seeds, device: str
) -> Floats:
    """What one client with `rows` sends from the global `weights`: trained, clipped and noised, (dimension,)."""
    import copy

    import torch

    dtype = getattr(torch, recipe.dtype)
    update = local_update(
        copy.deepcopy(model).to(device, dtype),
        np.asarray(weights),
        feature_tensor(rows.features, dtype=dtype, device=device),
        label_tensor(rows.labels, device=device),
        recipe.local,
        seeds=seeds,
        freeze_buffers=recipe.buffers == "freeze",
    )
    clip = math.inf if recipe.protection is None else recipe.protection.clip
    sending = RoundSum(0, len(update.delta), recipe.protection, clip, seeds, 1)
    sent: Floats = sending.add(["client"], update.delta[None])[0]
    return sent


def natural_updates(recipe: FederatedRecipe, data: Rows, rows: BoolArray, *, seeds: Seeds, device: str) -> Flat:
    """Updates (updates, dimension) of a few unprotected rounds on rows outside `rows`, or on `rows` where fewer than
    ten per client remain: the strongest attacker knows all clients but the canaries."""
    outside = ~rows
    chosen = outside if outside.sum() >= 10 * len(partition_rows(data, recipe.partition).clients) else rows
    plain = replace(recipe, protection=None, buffers="average", rounds=NATURAL_ROUNDS, view="final-model")
    local, schedule = prepare_training(plain, data, chosen, seeds=seeds, device=device)
    watcher = _Collector()
    _federation(plain, schedule, local, seeds, [watcher]).run()
    kept = [u for u in watcher.seen if len(u)]
    found: Flat = np.concatenate(kept)[:NATURAL_UPDATES] if kept else np.zeros((1, dimension(local.module)))
    return found


def prepare_training(
    recipe: FederatedRecipe, data: Rows, rows: BoolArray, *, seeds: Seeds, device: str
) -> tuple[LocalTrainer, Schedule]:
    """The clients with their rows and a fresh model, and the schedule of rounds that public numbers give."""
    import torch

    if recipe.protection is None and not rows.any():
        raise ConfigError("the trainer was given no training rows")
    partition: Partition = partition_rows(data, recipe.partition)
    dtype = getattr(torch, recipe.dtype)
    module = build_model(recipe.model, data.features.shape[1:], data.classes, seeds=seeds).to(device, dtype)
    _check_buffers(module, recipe)
    local = LocalTrainer(
        module,
        feature_tensor(data.features, dtype=dtype, device=device),
        label_tensor(data.labels, device=device),
        partition.rows_of(rows),
        partition.clients,
        recipe.local,
        freeze_buffers=recipe.buffers == "freeze",
    )
    return local, recipe.schedule(len(partition.clients))


def _check_buffers(module: nn.Module, recipe: FederatedRecipe) -> None:
    names = [name for name, _ in module.named_buffers()]
    if names and recipe.buffers == "refuse":
        raise IncompatibleError(
            f"the model has buffers ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}) that clients would "
            "send past clipping and noise: use GroupNorm, or set buffers = 'freeze' to keep them as they start"
        )


def recorder_of(
    recipe: FederatedRecipe, schedule: Schedule, local: LocalTrainer, seeds: Seeds, folder: Path | None
) -> ViewRecorder:
    """A recorder with room for everything that the recipe's observer will see."""
    sends = 0
    if recipe.view == "updates":
        for number in range(schedule.rounds):
            asked = draw_cohort(local.names, schedule.sample_rate, seeds=seeds, round_number=number)
            sends += int(draw_survivors(asked, schedule.dropout, seeds=seeds, round_number=number).sum())
    buffers = 0 if recipe.buffers == "freeze" else sum(b.size for b in read_buffers(local.module).values())
    return ViewRecorder(
        recipe.view,
        schedule.rounds,
        dimension(local.module),
        local.names,
        sends,
        buffers,
        schedule.weighting == "examples",
        folder if recipe.view != "final-model" else None,
    )


def _federation(
    recipe: FederatedRecipe,
    schedule: Schedule,
    local: LocalTrainer,
    seeds: Seeds,
    observers: list[Observer],
    kind: type[Federation] = Federation,
) -> Federation:
    start = ServerState.start(read_parameters(local.module))
    return kind(local, schedule, recipe.protection, seeds, start, read_buffers(local.module), observers)


def _finished(federation: Federation) -> nn.Module:
    module = federation.trainer.module
    weights = federation.weights()
    if not np.isfinite(weights).all():
        raise FloatingPointError(
            "federated training ended in infinite or NaN weights: lower server_learning_rate or learning_rate"
        )
    write_parameters(module, weights)
    if federation.buffers:
        write_buffers(module, federation.buffers)
    return module.eval()


def _metrics(federation: Federation, local: LocalTrainer, rows: BoolArray) -> Mapping[str, float]:
    """Plain numbers about the run; they are not part of what is released."""
    import torch

    module = _finished(federation)
    positions = torch.from_numpy(np.flatnonzero(rows)).to(local.labels.device)
    quality = fit_quality(module, local.features, local.labels, positions)
    counts, rounds = federation.counts, federation.schedule.rounds
    metrics: dict[str, float] = {
        "train_loss": quality.loss,
        "train_accuracy": quality.accuracy,
        "mean_cohort": counts["answered"] / rounds,
        "dropouts": counts["asked"] - counts["answered"],
        "rejected_updates": counts["rejected_updates"],
        "skipped_rounds": counts["skipped_rounds"],
        "empty_rounds": counts["empty_rounds"],
        "rounds_of_one_client": counts["rounds_of_one_client"],
        "clients_without_rows": sum(not len(held) for held in local.rows),
        "averaged_buffers": 0 if local.freeze_buffers else len(federation.buffers),
    }
    values = sum(np.asarray(b).size for b in federation.buffers.values()) if not local.freeze_buffers else 0
    # Secure aggregation adds integers of 32 bits, whatever the model computes in.
    word = 64 if local.features.dtype == torch.float64 and not _discrete(federation) else 32
    metrics |= dense_figures(federation, dimension(module), values, word)
    if federation.protection is not None:
        metrics["final_clip"] = federation.clip
        metrics["noise_multiplier"] = federation.protection.central or federation.protection.client
    return metrics


def _discrete(federation: Federation) -> bool:
    return federation.protection is not None and federation.protection.discrete


@dataclass(slots=True)
class _Collector:
    """An `Observer` that holds the updates of a short run."""

    seen: list[Any]

    def __init__(self) -> None:
        self.seen = []

    def model(self, *_: Any) -> None:
        """Nothing is kept."""

    def sent(self, _round: int, _clients: Any, updates: Any, _examples: Any) -> None:
        """Kept."""
        self.seen.append(updates)

    canaries_sent = took_part = total = released = model
