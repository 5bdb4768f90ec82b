"""Executors on this machine: the same bytes however many processes, lost processes, errors, unreadable trainers."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leakgauge.audit.errors import ConfigError, IncompatibleError, PrerequisiteError
from leakgauge.audit.execution import Block, LogProbabilities, Work, block_size, executor_named, one_thread
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Job, Rows, silent
from leakgauge.trainers.executors import LocalExecutor
from leakgauge.trainers.executors.block import ALIGNMENT, aligned, run_block
from leakgauge.trainers.executors.board import Board
from leakgauge.trainers.sgd import Sgd

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def blocks_of(folder: Path, sizes: Sequence[int], records: int = 60) -> list[Block]:
    """Blocks of such sizes; models are numbered through."""
    inside, blocks, model = Seeds(3).at("inside").generator().random((sum(sizes), records)) < 0.5, [], 0
    for number, size in enumerate(sizes):
        jobs = tuple(Job(inside[k], Seeds(3).at("model", k)) for k in range(model, model + size))
        blocks.append(Block(jobs, folder / str(number)))
        model += size
    return blocks


def work_of(trainer: Any, rows: Rows) -> Work:
    return Work(trainer, rows, rows, (LogProbabilities(),), "cpu")


def run(executor: LocalExecutor, trainer: Any, rows: Rows, blocks: list[Block], **options: Any) -> list[int]:
    order: list[int] = []
    executor.run(work_of(trainer, rows), blocks, finished=order.append, progress=options.get("progress", silent))
    return order


def bytes_of(blocks: list[Block]) -> list[dict[str, str]]:
    """Digests of everything that is to be stored, by file."""
    return [
        {
            p.relative_to(block.trained).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(block.trained.rglob("*"))
            if p.is_file()
        }
        for block in blocks
    ]


def logged(path: Path) -> list[dict[str, int]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_same_bytes_from_one_process_and_from_three_one_of_which_dies(images: Rows, tmp_path: Path) -> None:
    from slow_trainers import Stacked

    sizes = (8, 8, 5, 1, 1)
    alone, shared = blocks_of(tmp_path / "alone", sizes), blocks_of(tmp_path / "shared", sizes)
    run(LocalExecutor(say=print, workers=1), Stacked(), images, alone)
    (tmp_path / "deadly").touch()
    log, said, seen = tmp_path / "log", list[str](), list[tuple[int, int]]()
    slow = Stacked(log=str(log), deadly=str(tmp_path / "deadly"), main=os.getpid(), others=3)
    executor = LocalExecutor(say=said.append, workers=3, patience=0)
    order = run(executor, slow, images, shared, progress=lambda *now: seen.append(now))
    assert sorted(order) == list(range(len(sizes)))
    assert bytes_of(shared) == bytes_of(alone)
    assert all(len(files) == size * 3 for files, size in zip(bytes_of(alone), sizes, strict=True))
    # Every block once, that of the dead process twice.
    attempts = logged(log)
    assert len(attempts) == len(sizes) + 1
    assert sum(each["process"] != os.getpid() for each in attempts) >= 3
    assert seen[-1] == (23_000, 23_000)
    assert all(0 <= done <= total for done, total in seen)
    assert not said


def test_a_short_run_starts_no_process(images: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a helper was started")

    monkeypatch.setattr(subprocess, "Popen", forbidden)
    blocks = blocks_of(tmp_path, (2, 2, 1))
    assert run(LocalExecutor(say=print, workers=4), Sgd(epochs=1, nominal_rows=30), images, blocks) == [0, 1, 2]


@pytest.mark.parametrize("ours", [False, True])
def test_after_a_failure_nothing_is_begun(images: Rows, tmp_path: Path, ours: bool) -> None:
    from slow_trainers import Alone

    blocks = blocks_of(tmp_path, (1,) * 4)
    with pytest.raises(IncompatibleError if ours else ZeroDivisionError, match="model 2"):
        run(LocalExecutor(say=print, workers=1), Alone(failing=("2",), ours=ours), images, blocks)
    assert [block.trained.exists() for block in blocks] == [True, True, False, False]
    assert [block.checkpoint.exists() for block in blocks] == [True, True, True, False]


def test_the_first_failure_in_order_is_raised_whoever_was_faster(tmp_path: Path) -> None:
    board = Board(blocks_of(tmp_path, (1,) * 4), print, silent)
    assert [board.take(), board.take(), board.take()] == [0, 1, 2]
    board.fail(2, ValueError("late in order, early in time"))
    assert board.take() is None
    board.fail(1, KeyError("early in order"))
    assert not board.settled
    board.finish(0)
    assert board.settled
    with pytest.raises(KeyError, match="early in order"):
        board.raise_first()


def test_errors_from_a_helper_keep_their_name_and_words(images: Rows, tmp_path: Path) -> None:
    from slow_trainers import Alone

    from leakgauge.trainers.executors.helper import Helper

    blocks = blocks_of(tmp_path, (1, 1))
    helper = Helper()
    try:
        assert helper.prepare(work_of(Alone(failing=("0",)), images)) is None
        with pytest.raises(RuntimeError, match="model 0") as caught:
            helper.run(blocks[0], progress=silent, say=print)
        assert (type(caught.value).__name__, str(caught.value)) == ("ZeroDivisionError", "model 0")
        helper.run(blocks[1], progress=silent, say=print)
        assert blocks[1].model(0).is_dir()
    finally:
        helper.kill()
        helper.end()


def test_models_on_which_processes_keep_dying_are_an_error(images: Rows, tmp_path: Path) -> None:
    from slow_trainers import Alone

    blocks = blocks_of(tmp_path, (1,) * 3)
    # Two helpers die of the second model while this process waits for them with the first.
    trainer = Alone(log=str(tmp_path / "log"), main=os.getpid())
    executor = LocalExecutor(say=print, workers=2, patience=0)
    with pytest.raises(RuntimeError, match="exit code 9, 2 times on the same models"):
        run(executor, trainer, images, blocks)


def test_a_trainer_that_cannot_travel_is_trained_here_and_that_is_said(images: Rows, tmp_path: Path) -> None:
    from slow_trainers import Alone

    class Local(Alone):
        pass

    said: list[str] = []
    blocks = blocks_of(tmp_path, (1,) * 4)
    executor = LocalExecutor(say=said.append, workers=2, patience=0)
    assert run(executor, Local(seconds=0.6), images, blocks) == [0, 1, 2, 3]
    assert len(said) == 1
    assert "trained in one process" in said[0]


PARENT = """
import signal, sys
# A shell that starts this in the background lets it ignore the interrupt, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
sys.path.insert(0, {here!r})
import importlib.util
spec = importlib.util.spec_from_file_location("test_executors", {file!r})
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
from slow_trainers import Stacked
import numpy as np
rows = tests.Rows(np.zeros((60, 2), np.float32), np.zeros(60, np.int64), tuple(map(str, range(60))), 2)
blocks = tests.blocks_of(Path({folder!r}), (1, 1))
trainer = Stacked(seconds=300.0, log={log!r})
tests.run(tests.LocalExecutor(say=print, workers=2, patience=0), trainer, rows, blocks)
"""


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_helpers_do_not_outlive_this_process(tmp_path: Path, how: signal.Signals) -> None:
    log = tmp_path / "log"
    code = PARENT.format(here=str(HERE), file=__file__, folder=str(tmp_path / "blocks"), log=str(log))
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while (not log.exists() or len(logged(log)) < 2) and time.monotonic() < until:
        time.sleep(0.05)
    (helper,) = {each["process"] for each in logged(log)} - {parent.pid}
    assert alive(helper)
    parent.send_signal(how)
    parent.wait(20)
    until = time.monotonic() + 5
    while alive(helper) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(helper)


def test_a_checkpoint_of_another_version_is_discarded(images: Rows, tmp_path: Path) -> None:
    said: list[str] = []
    (block,) = blocks_of(tmp_path, (3,))
    for epochs in (1, 2):
        work = work_of(Sgd(epochs=epochs, nominal_rows=30), images)
        run_block(work, block, progress=silent, say=said.append)
    assert len(said) == 1
    assert "another version" in said[0]


def test_stored_models_are_asked_and_not_trained(images: Rows, tmp_path: Path) -> None:
    trainer = Sgd(epochs=1, nominal_rows=30)
    (block,) = blocks_of(tmp_path / "first", (3,))
    run(LocalExecutor(say=print), trainer, images, [block])
    stored = tuple(block.model(k) for k in range(3))
    again = Block(block.jobs, tmp_path / "again", stored)
    run(LocalExecutor(say=print), trainer, images, [again])
    for k in range(3):
        np.testing.assert_array_equal(np.load(again.answers(k, 0)), np.load(block.answers(k, 0)))
        assert not list(again.model(k).iterdir())


def test_arithmetic_has_one_thread_and_features_start_on_a_cache_line(images: Rows) -> None:
    import torch

    before = torch.get_num_threads()
    with one_thread("cpu"):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    memory = np.zeros(images.features.nbytes + 64, np.uint8)
    odd = memory[4 : 4 + images.features.nbytes].view(np.float32).reshape(images.features.shape)
    odd[...] = images.features
    rows = Rows(odd, images.labels, images.records, images.classes)
    features = aligned(work_of(Sgd(), rows)).queried.features
    assert features.ctypes.data % ALIGNMENT == 0
    np.testing.assert_array_equal(features, odd)


def test_blocks_are_32_models_where_the_trainer_stacks_and_one_where_not() -> None:
    from slow_trainers import Alone

    assert (block_size(Sgd()), block_size(Alone())) == (32, 1)


def test_what_is_wrong_with_the_option_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="'slurm' is unknown; choose from local, ray"):
        executor_named("slurm", print)
    monkeypatch.setenv("LEAKGAUGE_WORKERS", "many")
    with pytest.raises(ConfigError, match="LEAKGAUGE_WORKERS must be a whole number from 1, got 'many'"):
        executor_named("local", print)
    monkeypatch.setenv("LEAKGAUGE_WORKERS", "3")
    assert LocalExecutor(say=print).workers == 3
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(PrerequisiteError, match=r"pip install 'leakgauge\[ray\]'"):
        executor_named("ray", print)


@pytest.mark.parametrize(
    ("extra", "executor", "words"),
    [
        ("", "slurm", "'slurm' is unknown; choose from local, ray"),
        ('[target]\nestimator = "x:y"\n[design]\nmembership = "m.csv"\n', "ray", "nothing is trained"),
    ],
)
def test_the_option_is_checked_before_anything_is_written(
    tmp_path: Path, extra: str, executor: str, words: str
) -> None:
    from leakgauge.audit.conduct import conduct

    audit = '[audit]\nname = "x"\n[data]\nname = "digits"\n[[attack]]\nname = "loss"\n'
    (tmp_path / "audit.toml").write_text(audit + (extra or '[trainer]\nname = "sgd"\n'))
    with pytest.raises(ConfigError, match=words):
        conduct(tmp_path / "audit.toml", tmp_path / "out", [], device="cpu", quiet=True, command="t", executor=executor)
    assert not (tmp_path / "out").exists()
