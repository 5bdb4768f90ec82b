"""Models on demand: what the store has is reused, what it lacks is trained in blocks, where the executor runs them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .answers import Source, Stack, read
from .execution import Block, Executor, LogProbabilities, Question, Work, block_size
from .plugs import identity_of
from .progress import Reporter
from .seeds import Seeds
from .store import Store, digest
from .types import BoolArray, Job, PrivateTrainer, Rows, Trained, Trainer

LOG_PROBABILITIES = LogProbabilities()
ANSWERS = "answers.npy"


@dataclass(frozen=True, slots=True)
class Signals:
    """What one model answers, the store key, and its training record."""

    source: Source
    key: str
    record: dict[str, Any]

    @property
    def log_probabilities(self) -> NDArray[np.float32]:
        """Natural-log class probabilities (queried, classes); mapped from the store while it is in use."""
        return read(self.source)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A block to train, and what its models are stored by."""

    block: Block
    inputs: tuple[dict[str, Any], ...]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Bank:
    """Trains on `universe` and asks about `queried`. `device` and `executor` shape speed, not what is stored."""

    store: Store
    universe: Rows
    queried: Rows
    device: str
    reporter: Reporter
    executor: Executor
    _fingerprints: dict[bytes, str] = field(default_factory=dict)

    @cached_property
    def queried_fingerprint(self) -> str:
        """A digest of the rows that models are asked about."""
        return self.queried.fingerprint()

    @cached_property
    def versions(self) -> dict[str, str]:
        """Of the packages that shape a model."""
        return {name: installed_version(name) for name in ("torch", "opacus")}

    def signals(self, trainer: Trainer, jobs: Sequence[Job], label: str) -> list[Signals]:
        """One `Signals` per job, in order. Missing models are trained; missing answers are asked of stored models."""
        sources = self.query(trainer, jobs, LOG_PROBABILITIES, label).sources
        keys = self._keys(trainer, jobs)
        return [Signals(source, key, self._record(key)) for source, key in zip(sources, keys, strict=True)]

    def query(self, trainer: Trainer, jobs: Sequence[Job], question: Question, label: str) -> Stack:
        """Every job's answers, in order, like an array (jobs, queried, ...) that stays on disk."""
        self.train(trainer, [jobs], label, [question])
        keys = self._keys(trainer, jobs)
        asked = [digest(self._asked(key, question)) for key in keys]
        open_jobs = [k for k in range(len(jobs)) if not self.store.has("signals", asked[k])]
        if open_jobs:
            trainer = with_public_size(trainer, jobs)
            self._ask(trainer, [jobs[k] for k in open_jobs], [keys[k] for k in open_jobs], question, label)
        return Stack(tuple(self.store.path("signals", key) / ANSWERS for key in asked))

    def trained(self, trainer: Trainer, job: Job, label: str) -> Trained:
        """One model itself, loaded from the store."""
        self.train(trainer, [[job]], label)
        folder = self.store.path("models", self._keys(trainer, [job])[0])
        return with_public_size(trainer, [job]).load(folder, self.universe, device=self.device)

    def train(
        self, trainer: Trainer, groups: Sequence[Sequence[Job]], label: str, questions: Sequence[Question] = ()
    ) -> None:
        """Train what the store lacks of all groups at once, so that their blocks share the workers, and put these
        questions to the models while they are in memory, after the one for log-probabilities. Models of different
        groups are never in one block."""
        asked = tuple({(each.name, each.version): each for each in (LOG_PROBABILITIES, *questions)}.values())
        planned = [one for jobs in groups for one in self._plan(with_public_size(trainer, jobs), jobs)]
        if not planned:
            return
        jobs = planned[0].block.jobs
        work = Work(with_public_size(trainer, jobs), self.universe, self.queried, asked, self.device)
        blocks = [one.block for one in planned]
        models = sum(len(block.jobs) for block in blocks)
        with self.reporter.step("train"), self.reporter.training(label, models) as progress:
            self.executor.run(work, blocks, finished=lambda k: self._collect(planned[k], asked), progress=progress)

    def _keys(self, trainer: Trainer, jobs: Sequence[Job]) -> list[str]:
        trainer = with_public_size(trainer, jobs)
        return [digest(self._inputs(trainer, job)) for job in jobs]

    def _inputs(self, trainer: Trainer, job: Job) -> dict[str, Any]:
        return {
            "trainer": identity_of(trainer),
            "versions": self.versions,
            "data": self._fingerprint(job.inside),
            "seeds": {"root": job.seeds.root, "path": list(job.seeds.path)},
        }

    def _fingerprint(self, inside: BoolArray) -> str:
        """Of a model's rows; remembered, since every trainer and every question asks again."""
        members = np.packbits(inside).tobytes()
        if members not in self._fingerprints:
            self._fingerprints[members] = self.universe.take(inside).fingerprint()
        return self._fingerprints[members]

    def _plan(self, trainer: Trainer, jobs: Sequence[Job]) -> Iterator[_Planned]:
        """The blocks in which a model is missing. What is only to be closed is closed."""
        size = block_size(trainer)
        for start in range(0, len(jobs), size):
            part = tuple(jobs[start : start + size])
            inputs = tuple(self._inputs(trainer, job) for job in part)
            planned = self._planned(part, inputs)
            missing = [k for k, key in enumerate(planned.keys) if not self.store.has("models", key)]
            if not missing:
                self._close(planned)
                continue
            # A block begun before is finished as the same block: another composition would round differently.
            if len(missing) < len(part) and not planned.block.checkpoint.exists():
                planned = self._planned(tuple(part[k] for k in missing), tuple(inputs[k] for k in missing))
            planned.block.checkpoint.mkdir(parents=True, exist_ok=True)
            yield planned

    def _planned(self, jobs: tuple[Job, ...], inputs: tuple[dict[str, Any], ...]) -> _Planned:
        keys = tuple(digest(each) for each in inputs)
        return _Planned(Block(jobs, self.store.root / "checkpoints" / digest(keys)), inputs, keys)

    def _collect(self, planned: _Planned, asked: tuple[Question, ...]) -> None:
        """Move what an executor left of a block into the store."""
        for position, (key, inputs) in enumerate(zip(planned.keys, planned.inputs, strict=True)):
            self._keep(planned.block, position, key, inputs, asked)
        self._close(planned)

    def _keep(self, block: Block, position: int, key: str, inputs: dict[str, Any], asked: tuple[Question, ...]) -> None:
        """Store one model and its answers."""
        with self.store.writing("models", key, inputs) as folder:
            for file in block.model(position).iterdir():
                shutil.move(file, folder / file.name)
        for number, question in enumerate(asked):
            self._keep_answers(block.answers(position, number), key, question)

    def _keep_answers(self, file: Path, key: str, question: Question) -> None:
        asked = self._asked(key, question)
        with self.store.writing("signals", digest(asked), asked) as folder:
            shutil.move(file, folder / ANSWERS)

    def _close(self, planned: _Planned) -> None:
        """Log a block whose models are all stored, and drop its checkpoint; a kill in between leaves this to be done.

        The log has one line a block: the steps its models needed, and those really executed, repeated ones included.
        """
        keys, checkpoint = planned.keys, planned.block.checkpoint
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

    def _ask(self, trainer: Trainer, jobs: Sequence[Job], keys: Sequence[str], question: Question, label: str) -> None:
        """Put a question to models that are stored already."""
        blocks = [
            Block((job,), self.store.root / "tmp" / f"ask-{key}", (self.store.path("models", key),))
            for job, key in zip(jobs, keys, strict=True)
        ]

        def collect(number: int) -> None:
            self._keep_answers(blocks[number].answers(0, 0), keys[number], question)
            shutil.rmtree(blocks[number].checkpoint, ignore_errors=True)

        work = Work(trainer, self.universe, self.queried, (question,), self.device)
        with self.reporter.step("query"), self.reporter.training(label, len(blocks), "asked") as progress:
            self.executor.run(work, blocks, finished=collect, progress=progress)

    def _asked(self, key: str, question: Question) -> dict[str, Any]:
        return {"model": key, "queried": self.queried_fingerprint, "query": f"{question.name}/{question.version}"}


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
