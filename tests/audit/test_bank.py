"""The bank: what is stored is neither trained nor asked again, and every question has answers of its own."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from leakgauge.audit.answers import Stack
from leakgauge.audit.bank import Bank
from leakgauge.audit.execution import BLOCK, Block, Work
from leakgauge.audit.progress import Reporter
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.store import Store, read_inputs
from leakgauge.audit.types import Job, Progress, Rows, Trained
from leakgauge.trainers.executors import LocalExecutor
from leakgauge.trainers.sgd import Sgd

RECORDS = 40


@dataclass(frozen=True)
class Counted:
    """A question that notes how often it was asked, and with which seeds."""

    version: str = "1"
    name: ClassVar[str] = "counted"
    asked: ClassVar[list[Seeds]] = []

    def __call__(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> np.ndarray:
        self.asked.append(seeds)
        return np.full((len(rows), 2, 3), trained.steps, np.float32)


class Spy:
    """An executor that notes the blocks it was given."""

    name: ClassVar[str] = "spy"

    def __init__(self) -> None:
        self.blocks: list[Block] = []

    def run(self, work: Work, blocks: Sequence[Block], *, finished: Callable[[int], None], progress: Progress) -> None:
        self.blocks += blocks
        LocalExecutor(say=print, workers=1).run(work, blocks, finished=finished, progress=progress)

    def sizes(self) -> list[tuple[int, bool]]:
        """Models of each block, and whether they were trained; forgets them."""
        seen = [(len(block.jobs), not block.stored) for block in self.blocks]
        self.blocks.clear()
        return seen


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    generator = Seeds(4).at("rows").generator()
    features = generator.normal(size=(RECORDS, 5)).astype(np.float32)
    rows = Rows(features, generator.integers(0, 3, RECORDS), tuple(map(str, range(RECORDS))), 3)
    Counted.asked.clear()
    return Bank(Store(tmp_path), rows, rows.take(np.arange(30)), "cpu", Reporter(quiet=True), Spy())


def jobs(count: int, seed: int = 4) -> list[Job]:
    inside = Seeds(seed).at("inside").generator().random((count, RECORDS)) < 0.5
    return [Job(row, Seeds(seed).at("model", k)) for k, row in enumerate(inside)]


TRAINER = Sgd(epochs=1, hidden=(4,), nominal_rows=20)


def test_models_are_trained_once_in_fixed_blocks_and_groups_apart(bank):
    target, shadows = jobs(1, seed=5), jobs(BLOCK + 3)
    bank.train(TRAINER, [target, shadows], "all")
    assert bank.executor.sizes() == [(1, True), (BLOCK, True), (3, True)]
    signals = bank.signals(TRAINER, shadows, "shadows")
    bank.signals(TRAINER, target, "target")
    assert bank.executor.sizes() == []
    assert len(signals) == BLOCK + 3
    assert signals[0].log_probabilities.shape == (30, 3)
    assert signals[0].log_probabilities.dtype == np.float32
    np.testing.assert_allclose(np.exp(signals[0].log_probabilities).sum(axis=1), 1, rtol=1e-5)
    assert signals[0].record["steps"] == TRAINER.planned_steps(0)
    assert not list((bank.store.root / "checkpoints").iterdir())


def test_every_question_is_stored_under_its_own_key_and_asked_once(bank):
    bank.signals(TRAINER, jobs(3), "shadows")
    bank.executor.sizes()
    answers = bank.query(TRAINER, jobs(3), Counted(), "counted")
    assert isinstance(answers, Stack)
    assert answers.shape == (3, 30, 2, 3)
    assert bank.executor.sizes() == [(1, False)] * 3
    # The same seeds for every model: the same augmentations of a record.
    assert Counted.asked == [Seeds(4).at("query", "counted")] * 3
    bank.query(TRAINER, jobs(3), Counted(), "counted")
    assert len(Counted.asked) == 3
    bank.query(TRAINER, jobs(2), Counted("2"), "counted")
    assert len(Counted.asked) == 5
    kinds = [read_inputs(entry)["query"] for entry in bank.store.entries("signals")]
    assert {kind: kinds.count(kind) for kind in kinds} == {"log_probabilities/1": 3, "counted/1": 3, "counted/2": 2}
    assert not list((bank.store.root / "tmp").iterdir())


def test_a_question_known_beforehand_is_asked_while_the_model_is_in_memory(bank):
    bank.train(TRAINER, [jobs(3)], "all", [Counted()])
    assert bank.executor.sizes() == [(3, True)]
    bank.query(TRAINER, jobs(3), Counted(), "counted")
    assert bank.executor.sizes() == []


def test_a_new_model_among_stored_ones_is_trained_alone(bank):
    bank.signals(TRAINER, jobs(3), "shadows")
    bank.executor.sizes()
    bank.query(TRAINER, jobs(4), Counted(), "shadows")
    assert bank.executor.sizes() == [(1, True)] + [(1, False)] * 3


def test_the_model_itself_comes_from_the_store(bank):
    (job,) = jobs(1)
    trained = bank.trained(TRAINER, job, "target")
    (signals,) = bank.signals(TRAINER, [job], "target")
    assert bank.executor.sizes() == [(1, True)]
    np.testing.assert_array_equal(
        trained.target.log_probabilities(bank.queried.features), np.array(signals.log_probabilities)
    )


def test_damaged_answers_are_asked_again(bank):
    (first,) = bank.signals(TRAINER, jobs(1), "target")
    before = np.array(first.log_probabilities)
    first.source.write_bytes(b"")
    again = Bank(Store(bank.store.root), bank.universe, bank.queried, "cpu", Reporter(quiet=True), Spy())
    (second,) = again.signals(TRAINER, jobs(1), "target")
    assert again.executor.sizes() == [(1, False)]
    np.testing.assert_array_equal(second.log_probabilities, before)


def test_time_left_follows_the_pace_of_the_last_minute():
    from leakgauge.audit.progress import Pace

    pace = Pace()
    pace.note(0.0, 500)
    assert pace.left(1.0, 500) is None
    for second in range(1, 101):
        pace.note(float(second), 500 + second)
    assert pace.left(100.0, 400) == pytest.approx(400, rel=0.05)
    # A helper joins: twice the pace, believed within the window.
    for second in range(101, 201):
        pace.note(float(second), 600 + 2 * (second - 100))
    assert pace.left(200.0, 200) == pytest.approx(100, rel=0.05)


def test_a_log_gets_a_line_with_time_left_now_and_then(monkeypatch):
    from leakgauge.audit import progress

    clock = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    stream = io.StringIO()
    with Reporter(stream).training("sgd: shadows", 64) as update:
        for second in range(31):
            clock[0] = float(second)
            update(second * 1000, 64_000)
    assert stream.getvalue().splitlines() == [
        "  sgd: shadows: 15 %, about 54 s left",
        "  sgd: shadows: 31 %, about 44 s left",
        "  sgd: shadows: 46 %, about 34 s left",
        "  sgd: shadows: 64 models in 30.0 s",
    ]


def test_the_training_log_counts_every_block_once(bank):
    bank.train(TRAINER, [jobs(BLOCK + 1)], "all")
    lines = [json.loads(line) for line in (bank.store.root / "training-log.jsonl").read_text().splitlines()]
    steps = TRAINER.planned_steps(0)
    assert [(line["models"], line["needed"], line["executed"]) for line in lines] == [
        (BLOCK, BLOCK * steps, BLOCK * steps),
        (1, steps, steps),
    ]
