"""Models on demand: what the store has is loaded, what it lacks is trained in blocks, stacked where the trainer can."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import StaleArtifactError
from .plugs import identity_of
from .progress import Reporter
from .seeds import Seeds
from .store import Store, digest
from .types import BoolArray, Job, PrivateTrainer, Rows, StackedTrainer, Trained, Trainer

BLOCK = 64
"""Models trained together. Part of what a stored model depends on only through rounding, so it is a constant."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What one model answers: float32 log-probabilities (queried, classes), the store key, and its training record."""

    log_probabilities: NDArray[np.float32]
    key: str
    record: dict[str, Any]


@dataclass(frozen=True)
class Bank:
    """Trains on `universe` and queries `queried`. `device` shapes speed, not what is stored."""

    store: Store
    universe: Rows
    queried: Rows
    device: str
    reporter: Reporter

    @cached_property
    def _queried_fingerprint(self) -> str:
        return self.queried.fingerprint()

    @cached_property
    def _versions(self) -> dict[str, str]:
        return {name: installed_version(name) for name in ("torch", "opacus")}

    def signals(self, trainer: Trainer, jobs: Sequence[Job], label: str) -> list[Signals]:
        """One `Signals` per job, in order. Missing models are trained; missing answers are asked of stored models."""
        trainer = with_public_size(trainer, jobs)
        keyed = [(job, self._inputs(trainer, job)) for job in jobs]
        for start in range(0, len(keyed), BLOCK):
            self._train_block(trainer, keyed[start : start + BLOCK], label)
        return [self._answer(trainer, digest(inputs)) for _, inputs in keyed]

    def _inputs(self, trainer: Trainer, job: Job) -> dict[str, Any]:
        return {
            "trainer": identity_of(trainer),
            "versions": self._versions,
            "data": self.universe.take(job.inside).fingerprint(),
            "seeds": {"root": job.seeds.root, "path": list(job.seeds.path)},
        }

    def _train_block(self, trainer: Trainer, block: Sequence[tuple[Job, dict[str, Any]]], label: str) -> None:
        keys = [digest(inputs) for _, inputs in block]
        missing = [k for k in keys if not self.store.has("models", k)]
        checkpoint = self.store.root / "checkpoints" / digest(keys)
        if not missing:
            self._close(keys, checkpoint)
            return
        # A block begun before is finished as the same block: another composition would round differently.
        if len(missing) < len(keys) and not checkpoint.exists():
            keep = [pair for pair, key in zip(block, keys, strict=True) if key in missing]
            self._train_block(trainer, keep, label)
            return
        checkpoint.mkdir(parents=True, exist_ok=True)
        with self.reporter.step("train"):
            jobs = [job for job, _ in block]
            try:
                trained = self._fit(trainer, jobs, checkpoint, label)
            except StaleArtifactError:
                # Begun by another version of the trainer: of no use to this one, and nothing else is lost with it.
                self.reporter.say(f"  {label}: a checkpoint of another version is discarded")
                shutil.rmtree(checkpoint)
                checkpoint.mkdir()
                trained = self._fit(trainer, jobs, checkpoint, label)
            for (_, inputs), key, model in zip(block, keys, trained, strict=True):
                self._keep(trainer, key, inputs, model)
        self._close(keys, checkpoint)

    def _close(self, keys: list[str], checkpoint: Path) -> None:
        """Log a block whose models are all stored, and drop its checkpoint; a kill in between leaves this to be done.

        The log has one line a block: the steps its models needed, and those really executed, repeated ones included.
        """
        if not checkpoint.exists():
            return
        path = self.store.root / "training-log.jsonl"
        logged = path.read_text(encoding="utf-8") if path.exists() else ""
        if digest(keys) not in logged:
            needed = sum(int(self._record(key).get("steps", 0)) for key in keys)
            counters = [json.loads(p.read_text(encoding="utf-8")) for p in checkpoint.rglob("steps.json")]
            executed = sum(int(c["executed"]) for c in counters) if counters else needed
            entry = {"block": digest(keys), "models": len(keys), "needed": needed, "executed": executed}
            with path.open("a", encoding="utf-8") as log:
                log.write(json.dumps(entry) + "\n")
        shutil.rmtree(checkpoint, ignore_errors=True)

    def _record(self, key: str) -> dict[str, Any]:
        """What a stored model's trainer wrote about its training."""
        record: dict[str, Any] = json.loads((self.store.path("models", key) / "train.json").read_text(encoding="utf-8"))
        return record

    def _fit(self, trainer: Trainer, jobs: Sequence[Job], checkpoint: Path, label: str) -> list[Trained]:
        with self.reporter.training(label, len(jobs)) as progress:
            if isinstance(trainer, StackedTrainer) and len(jobs) > 1:
                return trainer.fit_many(
                    self.universe, jobs, device=self.device, checkpoint=checkpoint, progress=progress
                )
            models = []
            for position, job in enumerate(jobs):
                folder = checkpoint / str(position)
                folder.mkdir(exist_ok=True)
                models.append(
                    trainer.fit(self.universe, job.inside, seeds=job.seeds, device=self.device, checkpoint=folder)
                )
                progress(position + 1, len(jobs))
            return models

    def _keep(self, trainer: Trainer, key: str, inputs: dict[str, Any], model: Trained) -> None:
        """Store the model and, while it is in memory, its answers."""
        with self.store.writing("models", key, inputs) as folder:
            trainer.save(model, folder)
        self._ask(key, model)

    def _answer(self, trainer: Trainer, key: str) -> Signals:
        signal_key = digest({"model": key, "queried": self._queried_fingerprint})
        if not self.store.has("signals", signal_key):
            self._ask(key, trainer.load(self.store.path("models", key), self.universe, device=self.device))
        from safetensors.numpy import load_file

        stored = load_file(self.store.path("signals", signal_key) / "signals.safetensors")
        return Signals(stored["log_probabilities"], key, self._record(key))

    def _ask(self, key: str, model: Trained) -> None:
        from safetensors.numpy import save_file

        with self.reporter.step("query"):
            inputs = {"model": key, "queried": self._queried_fingerprint}
            answers = np.ascontiguousarray(model.target.log_probabilities(self.queried.features), dtype=np.float32)
            with self.store.writing("signals", digest(inputs), inputs) as folder:
                save_file({"log_probabilities": answers}, folder / "signals.safetensors")


def with_public_size(trainer: Trainer, jobs: Sequence[Job]) -> Trainer:
    """The trainer with `nominal_rows` filled in, where it has that field open: half of the candidates, since each flips
    a fair coin. Never the realised number of members, which is private."""
    if not is_dataclass(trainer) or "nominal_rows" not in {f.name for f in fields(trainer)}:
        return trainer
    if trainer.nominal_rows is not None or not jobs:
        return trainer
    return replace(trainer, nominal_rows=len(jobs[0].inside) // 2)


def jobs_for(target: BoolArray, shadows: BoolArray, *, seeds: Seeds) -> tuple[Job, list[Job]]:
    """The target's job and the shadows'. Streams depend on the model's number only, never on the trainer, so that two
    trainers of equal spec share their models through the store."""
    models = seeds.at("model")
    return Job(target, models.at("target")), [Job(row, models.at("shadow", k)) for k, row in enumerate(shadows)]


def unprotected_twin(trainer: Trainer) -> Trainer | None:
    """The positive control of a trainer that makes a claim, if it offers one."""
    return trainer.unprotected() if isinstance(trainer, PrivateTrainer) else None


def installed_version(package: str) -> str:
    """The installed version without its local part (`+cpu`): a device build is no other model."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return "absent"
