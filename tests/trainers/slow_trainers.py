"""Trainers for tests of executors, importable by worker processes: they wait, say where they ran, fail or die."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from leakgauge.audit.errors import IncompatibleError
from leakgauge.audit.types import Job, Rows, Trained
from leakgauge.trainers.sgd import Sgd

PROCESS = "process.json"


def note(log: str | None, models: int) -> None:
    """A line for every attempt at a block, by whichever process."""
    if log:
        with Path(log).open("a") as file:
            file.write(json.dumps({"process": os.getpid(), "models": models}) + "\n")


def wait_for_others(log: str, attempts: int) -> None:
    """Until other processes have begun so many blocks: tests that need their help must not depend on the clock."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        lines = Path(log).read_text().splitlines()
        if sum(json.loads(line)["process"] != os.getpid() for line in lines) >= attempts:
            return
        time.sleep(0.02)
    raise TimeoutError(f"no {attempts} attempts by other processes in {log}")


@dataclass(frozen=True)
class Stacked:
    """`Sgd` that notes its blocks in `log`. In the process `main` it first waits for `others` attempts of other
    processes; in any other it waits `seconds`, and the first to train while the file `deadly` exists removes it and
    dies."""

    name: ClassVar[str] = "stacked"
    seconds: float = 0.0
    log: str | None = None
    deadly: str | None = None
    main: int = 0
    others: int = 0
    inner: Sgd = field(default_factory=lambda: Sgd(epochs=1, hidden=(8,), nominal_rows=30))

    def fit(self, data: Rows, rows: NDArray[np.bool_], **options: Any) -> Trained:
        self._begin(1)
        return self.inner.fit(data, rows, **options)

    def fit_many(self, data: Rows, jobs: Sequence[Job], **options: Any) -> list[Trained]:
        self._begin(len(jobs))
        return self.inner.fit_many(data, jobs, **options)

    def save(self, trained: Trained, folder: Path) -> None:
        self.inner.save(trained, folder)

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:
        return self.inner.load(folder, data, device=device)

    def _begin(self, models: int) -> None:
        note(self.log, models)
        if self.log and self.others and os.getpid() == self.main:
            wait_for_others(self.log, self.others)
        elif self.deadly and Path(self.deadly).exists():
            Path(self.deadly).unlink()
            os._exit(7)
        else:
            time.sleep(self.seconds)


@dataclass(frozen=True)
class Alone:
    """A trainer that cannot stack: the model is the mean of its rows. Fails on the models `failing`, with an error of
    ours or another. With `log`, every process but `main` dies, and that one waits for two to have tried."""

    name: ClassVar[str] = "alone"
    seconds: float = 0.0
    failing: tuple[str, ...] = ()
    ours: bool = False
    log: str | None = None
    main: int = 0

    def fit(self, data: Rows, rows: NDArray[np.bool_], *, seeds: Any, device: str, checkpoint: Any = None) -> Trained:
        note(self.log, 1)
        if self.log:
            if os.getpid() != self.main:
                os._exit(9)
            wait_for_others(self.log, 2)
        who = str(seeds.path[-1])
        if who in self.failing:
            raise (IncompatibleError if self.ours else ZeroDivisionError)(f"model {who}")
        time.sleep(self.seconds)
        return trained(data.take(rows).features.reshape(int(rows.sum()), -1).mean(axis=0))

    def save(self, trained: Trained, folder: Path) -> None:
        np.save(folder / "mean.npy", trained.model)
        (folder / "train.json").write_text(json.dumps({"steps": 1, "process": os.getpid()}))

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:
        return trained(np.load(folder / "mean.npy"))


def trained(mean: NDArray[np.float32]) -> Trained:
    return Trained(mean, Mean(mean), None, 1)


@dataclass(frozen=True)
class Mean:
    mean: NDArray[np.float32]

    def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        inside = np.exp(-np.abs(features.reshape(len(features), -1) - self.mean).mean(axis=1))
        return np.log(np.stack([inside, 1 - inside], axis=1) * 0.98 + 0.01).astype(np.float32)


@dataclass(frozen=True)
class LoggedSgd:
    """`Sgd` with a log, as an audit file names it; stacks."""

    name: ClassVar[str] = "logged-sgd"
    log: str
    epochs: float
    nominal_rows: int | None = None

    def fit(self, data: Rows, rows: NDArray[np.bool_], **options: Any) -> Trained:
        note(self.log, 1)
        return self._inner().fit(data, rows, **options)

    def fit_many(self, data: Rows, jobs: Sequence[Job], **options: Any) -> list[Trained]:
        note(self.log, len(jobs))
        return self._inner().fit_many(data, jobs, **options)

    def save(self, trained: Trained, folder: Path) -> None:
        self._inner().save(trained, folder)

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:
        return self._inner().load(folder, data, device=device)

    def _inner(self) -> Sgd:
        return Sgd(epochs=self.epochs, nominal_rows=self.nominal_rows)
