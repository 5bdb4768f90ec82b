"""kill -9 at any step, run again: the same model bit for bit, and no more steps repeated than since the checkpoint."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from leakgauge.audit.errors import StaleArtifactError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Job, Rows, Trained
from leakgauge.trainers import checkpoint as checkpoints
from leakgauge.trainers import single, stacked
from leakgauge.trainers.checkpoint import Checkpoint, executed_steps
from leakgauge.trainers.dpsgd import DpSgd
from leakgauge.trainers.sgd import Sgd
from leakgauge.trainers.stacked import loop

TRAINERS = [
    Sgd(epochs=6, batch_size=8, nominal_rows=30, dropout=0.2, early_stopping_patience=4, validation_fraction=0.3),
    Sgd(epochs=6, batch_size=8, nominal_rows=30, optimizer="adam", sampling="poisson", model="cnn"),
    Sgd(epochs=6, batch_size=4),
    DpSgd(epochs=6, batch_size=8, nominal_rows=30, noise_multiplier=1.0, momentum=0.9, dropout=0.1),
    DpSgd(epochs=6, batch_size=8, nominal_rows=30, noise_multiplier=1.0, clipping="ghost", optimizer="adam"),
]


def same(one: Trained, other: Trained) -> bool:
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return one.steps == other.steps and one.metrics == other.metrics and all(torch.equal(a, b) for a, b in pairs)


class Killed(BaseException):
    """Stands in for a kill: nothing catches it."""


def kill_after(monkeypatch, steps: int) -> None:
    """Checkpoints are due at every third step; the process dies at step `steps`."""
    seen = {"n": 0}

    def due(self: Checkpoint) -> bool:
        seen["n"] += 1
        if seen["n"] == steps:
            raise Killed
        return seen["n"] % 3 == 0

    monkeypatch.setattr(Checkpoint, "due", due)


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda t: f"{t.name}-{t.model}-{t.optimizer}")
@pytest.mark.parametrize("kill", [2, 8, 16])
def test_single_resumes(trainer, kill: int, images: Rows, jobs: list[Job], tmp_path: Path, monkeypatch) -> None:
    job = jobs[0]
    whole = trainer.fit(images, job.inside, seeds=job.seeds, device="cpu")
    with monkeypatch.context() as patch:
        kill_after(patch, kill)
        with pytest.raises(Killed):
            trainer.fit(images, job.inside, seeds=job.seeds, device="cpu", checkpoint=tmp_path)
    again = trainer.fit(images, job.inside, seeds=job.seeds, device="cpu", checkpoint=tmp_path)
    assert same(whole, again)
    assert executed_steps(tmp_path) == whole.steps + kill - (kill - 1) // 3 * 3


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda t: f"{t.name}-{t.model}-{t.optimizer}")
@pytest.mark.parametrize("kill", [2, 8, 30])
def test_stack_resumes(trainer, kill: int, images: Rows, jobs: list[Job], tmp_path: Path, monkeypatch) -> None:
    # Two chunks, so that a kill can fall into the second.
    monkeypatch.setattr(stacked, "chunk_size", lambda *_, **__: 3)
    whole = trainer.fit_many(images, jobs, device="cpu")
    with monkeypatch.context() as patch:
        kill_after(patch, kill)
        with pytest.raises(Killed):
            trainer.fit_many(images, jobs, device="cpu", checkpoint=tmp_path)
    again = trainer.fit_many(images, jobs, device="cpu", checkpoint=tmp_path)
    assert all(same(a, b) for a, b in zip(whole, again, strict=True))
    total = sum(m.steps for m in whole)
    assert total <= executed_steps(tmp_path) <= total + 3 * len(jobs)


def test_a_finished_training_is_not_repeated(images: Rows, jobs: list[Job], tmp_path: Path) -> None:
    """The state stays until the caller has stored the model: a kill before that costs nothing."""
    trainer = TRAINERS[3]
    first = trainer.fit_many(images, jobs, device="cpu", checkpoint=tmp_path)
    second = trainer.fit_many(images, jobs, device="cpu", checkpoint=tmp_path)
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    assert executed_steps(tmp_path) == sum(m.steps for m in first)


def test_another_training_is_refused(images: Rows, jobs: list[Job], tmp_path: Path) -> None:
    trainer = Sgd(epochs=1)
    trainer.fit(images, jobs[0].inside, seeds=jobs[0].seeds, device="cpu", checkpoint=tmp_path)
    other = Rows(images.features + 1, images.labels, images.records, 4)
    for spec, data, inside, seeds in (
        (Sgd(epochs=2), images, jobs[0].inside, jobs[0].seeds),
        (trainer, other, jobs[0].inside, jobs[0].seeds),
        (trainer, images, jobs[1].inside, jobs[0].seeds),
        (trainer, images, jobs[0].inside, Seeds(99)),
    ):
        with pytest.raises(StaleArtifactError, match="belongs to another training"):
            spec.fit(data, inside, seeds=seeds, device="cpu", checkpoint=tmp_path)


def test_files_of_a_checkpoint(images: Rows, jobs: list[Job], tmp_path: Path) -> None:
    Sgd(epochs=1).fit_many(images, jobs[:2], device="cpu", checkpoint=tmp_path / "new")
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"chunk-0.safetensors", "steps.json"}
    assert json.loads((tmp_path / "new" / "steps.json").read_text())["executed"] == 2
    assert executed_steps(tmp_path) == 0


def test_due_goes_by_time(monkeypatch, tmp_path: Path) -> None:
    assert not Checkpoint(tmp_path, "x").due()
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    assert Checkpoint(tmp_path, "x").due()
    assert not Checkpoint(None, "x").due()


PROGRAM = """
import sys, numpy as np
from pathlib import Path
import torch
torch.set_num_threads(1)
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Job, Rows
from leakgauge.trainers import checkpoint
from leakgauge.trainers.sgd import Sgd
checkpoint.SECONDS_BETWEEN = 0.05
generator = Seeds(4).generator()
x = generator.normal(size=(80, 9)).astype(np.float32)
data = Rows(x, generator.integers(0, 3, 80), tuple(map(str, range(80))), 3)
jobs = [Job(generator.random(80) < 0.5, Seeds(4).at(k)) for k in range(4)]
trainer = Sgd(epochs=float(sys.argv[2]), batch_size=8, nominal_rows=40, sampling="poisson", dropout=0.1)
models = trainer.fit_many(data, jobs, device="cpu", checkpoint=Path(sys.argv[1]))
print([float(sum(p.detach().double().sum() for p in m.model.parameters())).hex() for m in models])
"""


def test_a_real_kill(tmp_path: Path) -> None:
    epochs = "400"

    def start(folder: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / folder), epochs]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    victim = start("killed")
    state = tmp_path / "killed" / "chunk-0.safetensors"
    deadline = time.monotonic() + 60
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    before = executed_steps(tmp_path / "killed")
    assert victim.returncode == -signal.SIGKILL, "the program finished before it could be killed"
    assert 0 < before < 8000
    resumed, whole = start("killed"), start("whole")
    assert resumed.communicate()[0] == whole.communicate()[0] != ""
    assert executed_steps(tmp_path / "whole") == 4 * 2000
    assert 8000 <= executed_steps(tmp_path / "killed") < 8000 + before


def test_blocks_do_not_matter(images: Rows, jobs: list[Job], monkeypatch) -> None:
    trainer = TRAINERS[3]
    alone = trainer.fit(images, jobs[0].inside, seeds=jobs[0].seeds, device="cpu")
    many = trainer.fit_many(images, jobs, device="cpu")
    monkeypatch.setattr(single, "BLOCK", 3)
    monkeypatch.setattr(loop, "block_steps", lambda *_: 5)
    assert same(alone, trainer.fit(images, jobs[0].inside, seeds=jobs[0].seeds, device="cpu"))
    again = trainer.fit_many(images, jobs, device="cpu")
    assert (
        max(float(np.abs(a.metrics["train_loss"] - b.metrics["train_loss"])) for a, b in zip(many, again, strict=True))
        < 1e-5
    )
