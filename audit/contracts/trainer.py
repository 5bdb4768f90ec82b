"""The contract of trainers: all follows from rows, specification and seeds; what is saved is what was trained."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..seeds import Seeds
from ..types import BoolArray, Claim, Job, PrivateTrainer, Rows, StackedTrainer, Trained, Trainer
from .failure import require
from .plug import check_plug

SAFE = {".safetensors", ".json", ".npy", ".npz", ".parquet", ".txt", ".csv"}
"""Files that are read without running code."""
CLAIM_TOLERANCE = 1e-6


def check_trainer(trainer: Trainer, data: Rows, folder: Path, *, seeds: Seeds, device: str = "cpu") -> None:
    """Check a trainer on `data`, of which a random half is trained on; `folder` (empty) receives a saved model.

    Fits five models. Raises `ContractError` with the first promise that is broken.
    """
    check_plug(trainer, "trainer")
    name = f"trainer {trainer.name!r}"
    rows = seeds.at("rows").generator().random(len(data)) < 0.5
    before = data.fingerprint()
    first = _fit(trainer, data, rows, seeds.at("fit"), device)
    answers = _answers(first, data, name)
    require(data.fingerprint() == before, f"{name}: fit changed the data it was given")
    require(first.steps >= 0, f"{name}: steps must count optimizer steps, got {first.steps}")
    numbers = [v for v in first.metrics.values() if not isinstance(v, int | float) or not math.isfinite(v)]
    require(not numbers, f"{name}: metrics must be finite numbers, got {numbers[:1]}")
    again = _answers(_fit(trainer, data, rows, seeds.at("fit"), device), data, name)
    require(
        np.array_equal(answers, again),
        f"{name}: two fits with the same seeds differ by up to {_distance(answers, again):.3g}; take all randomness "
        "from the seeds given",
    )
    other = _answers(_fit(trainer, _without_outsiders(data, rows), rows, seeds.at("fit"), device), data, name)
    require(
        np.array_equal(answers, other),
        f"{name}: the model changes by up to {_distance(answers, other):.3g} with records it was not to train on",
    )
    if first.claim is not None:
        fresh = _answers(_fit(trainer, data, rows, seeds.at("other"), device), data, name)
        require(
            not np.array_equal(answers, fresh),
            f"{name}: it claims privacy, but other seeds give the same model: its noise is no secret",
        )
    _check_saving(trainer, first, answers, data, folder, device)
    if isinstance(trainer, StackedTrainer):
        job = Job(rows, seeds.at("fit"))
        stacked = _answers(trainer.fit_many(data, [job, job], device=device)[1], data, name)
        require(
            np.allclose(answers, stacked, rtol=1e-3, atol=1e-3),
            f"{name}: fit_many differs from fit by up to {_distance(answers, stacked):.3g}",
        )
    if isinstance(trainer, PrivateTrainer):
        _check_private(trainer, first.claim, data, rows, seeds, device)


def _fit(trainer: Trainer, data: Rows, rows: BoolArray, seeds: Seeds, device: str) -> Trained:
    return trainer.fit(data, rows, seeds=seeds, device=device)


def _answers(trained: Trained, data: Rows, name: str) -> NDArray[np.float32]:
    """Log-probabilities of all rows, checked to be some."""
    answers = np.asarray(trained.target.log_probabilities(data.features))
    shape = (len(data), data.classes)
    require(answers.shape == shape, f"{name}: log_probabilities have shape {answers.shape}, expected {shape}")
    require(not np.isnan(answers).any(), f"{name}: log_probabilities hold NaN")
    total = np.exp(answers.astype(np.float64)).sum(axis=1)
    require(
        bool((np.abs(total - 1) < 1e-3).all()),
        f"{name}: probabilities of a record sum to {total[np.argmax(np.abs(total - 1))]:.4g}, not 1; give natural "
        "logarithms",
    )
    return answers


def _without_outsiders(data: Rows, rows: BoolArray) -> Rows:
    """The same rows with the others' features and labels wiped."""
    features, labels = data.features.copy(), data.labels.copy()
    features[~rows], labels[~rows] = 0, 0
    return replace(data, features=features, labels=labels)


def _check_saving(
    trainer: Trainer, trained: Trained, answers: NDArray[np.float32], data: Rows, folder: Path, device: str
) -> None:
    name = f"trainer {trainer.name!r}"
    folder.mkdir(parents=True, exist_ok=True)
    trainer.save(trained, folder)
    files = [p for p in folder.rglob("*") if p.is_file()]
    odd = [p.name for p in files if p.suffix not in SAFE]
    require(bool(files), f"{name}: save wrote nothing into the folder it was given")
    require(not odd, f"{name}: save wrote {odd[:1]}; use safetensors, JSON or numpy files, nothing is ever unpickled")
    loaded = trainer.load(folder, data, device=device)
    back = _answers(loaded, data, name)
    require(
        np.array_equal(answers, back),
        f"{name}: the model loaded differs from the one saved by up to {_distance(answers, back):.3g}",
    )
    require(loaded.claim == trained.claim, f"{name}: the claim loaded is {loaded.claim}, saved was {trained.claim}")
    require(loaded.steps == trained.steps, f"{name}: steps loaded are {loaded.steps}, saved were {trained.steps}")


def _check_private(trainer: Any, claim: Claim | None, data: Rows, rows: BoolArray, seeds: Seeds, device: str) -> None:
    name = f"trainer {trainer.name!r}"
    require(claim is not None, f"{name}: it has an unprotected twin, but its model makes no claim")
    assert claim is not None
    planned = trainer.planned_claim(int(rows.sum()))
    same = abs(planned.epsilon - claim.epsilon) <= CLAIM_TOLERANCE * max(1.0, claim.epsilon)
    require(
        same and (planned.delta, planned.unit, planned.adjacency) == (claim.delta, claim.unit, claim.adjacency),
        f"{name}: planned_claim says epsilon {planned.epsilon:g} at {planned.delta:g}, training epsilon "
        f"{claim.epsilon:g} at {claim.delta:g}; the claim may depend on public sizes only",
    )
    twin = trainer.unprotected()
    bare = _fit(twin, data, rows, seeds.at("twin"), device)
    require(bare.claim is None, f"{name}: its unprotected twin claims epsilon {bare.claim and bare.claim.epsilon}")
    _answers(bare, data, f"unprotected twin of {name}")


def _distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.nanmax(np.abs(one.astype(np.float64) - other.astype(np.float64))))
