"""Ray: the same bytes as on this machine, a dead worker's block again, and a whole audit that loses a node."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leakgauge.audit.errors import IncompatibleError, PrerequisiteError
from leakgauge.audit.execution import Block, LogProbabilities, Work
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Job, Rows, silent
from leakgauge.trainers.executors import LocalExecutor, RayExecutor
from leakgauge.trainers.executors.board import Board
from leakgauge.trainers.executors.cluster import Outcome

ray = pytest.importorskip("ray", reason="needs the extra leakgauge[ray]")
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def blocks_of(folder: Path, sizes: tuple[int, ...]) -> list[Block]:
    inside, blocks, model = Seeds(3).at("inside").generator().random((sum(sizes), 60)) < 0.5, [], 0
    for number, size in enumerate(sizes):
        jobs = tuple(Job(inside[k], Seeds(3).at("model", k)) for k in range(model, model + size))
        (folder / str(number)).mkdir(parents=True)
        blocks.append(Block(jobs, folder / str(number)))
        model += size
    return blocks


def stored_bytes(block: Block) -> dict[str, bytes]:
    return {str(p.relative_to(block.trained)): p.read_bytes() for p in block.trained.rglob("*") if p.is_file()}


def test_on_ray_the_same_bytes_and_a_dead_worker_is_replaced(
    images: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slow_trainers import Alone, Stacked

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("LEAKGAUGE_WORKERS", "1")
    sizes = (5, 1)
    here, there = blocks_of(tmp_path / "here", sizes), blocks_of(tmp_path / "there", sizes)
    (tmp_path / "deadly").touch()
    trainer = Stacked(log=str(tmp_path / "log"), deadly=str(tmp_path / "deadly"))
    executor = RayExecutor(say=print)
    try:
        work, order = Work(trainer, images, images, (LogProbabilities(),), "cpu"), list[int]()
        executor.run(work, there, finished=order.append, progress=silent)
        attempts = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        assert [each["models"] for each in attempts].count(5) + [each["models"] for each in attempts].count(1) == 3
        assert os.getpid() not in {each["process"] for each in attempts}
        assert sorted(order) == [0, 1]
        LocalExecutor(say=print, workers=1).run(
            Work(Stacked(), images, images, (LogProbabilities(),), "cpu"), here, finished=order.append, progress=silent
        )
        for one, other in zip(here, there, strict=True):
            assert stored_bytes(one) == stored_bytes(other)
        # What was executed over there is counted here.
        assert json.loads((there[0].checkpoint / "ray" / "steps.json").read_text())["executed"] == 5
        failing = Work(Alone(failing=("1",), ours=True), images, images, (LogProbabilities(),), "cpu")
        with pytest.raises(IncompatibleError, match="model 1"):
            executor.run(failing, blocks_of(tmp_path / "failing", (1, 1)), finished=order.append, progress=silent)
    finally:
        ray.shutdown()


def test_no_cluster_at_the_address_is_said(monkeypatch: pytest.MonkeyPatch, images: Rows, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(PrerequisiteError, match="RAY_ADDRESS='nonsense'"):
        RayExecutor(say=print).run(
            Work(None, images, images, (), "cpu"),  # type: ignore[arg-type]
            blocks_of(tmp_path, (1,)),
            finished=print,
            progress=silent,
        )


AUDIT = """
[audit]
name = "lossy"
seed = 5
delta = 1e-6
[data]
name = "digits"
label_noise = 0.2
[design]
audit_records = 600
[[trainer]]
name = "slow_trainers:LoggedSgd"
id = "sgd"
log = "{log}"
epochs = {epochs}
[[attack]]
name = "lira"
shadows = 64
guesses = 200
[[attack]]
name = "rmia"
references = 4
guesses = 200
"""


def comparable(folder: Path) -> dict[str, Any]:
    audit: dict[str, Any] = json.loads((folder / "audit.json").read_text())
    audit.pop("timings")
    for key in ("started", "finished", "attempts", "command"):
        audit["provenance"].pop(key)
    return audit


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without a core, and two nodes of one core each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def lines(log: Path) -> list[dict[str, int]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def kill_a_node(cluster: Any, node: Any, log: Path, out: Path) -> threading.Event:
    """One second after two blocks of 32 are in training, one on each node; set when it is done."""
    killed = threading.Event()

    def wait_and_kill() -> None:
        while len({each["process"] for each in lines(log) if each["models"] == 32}) < 2:
            time.sleep(0.05)
        time.sleep(1.0)
        stored = len(list((out / "models").glob("*"))) if (out / "models").exists() else 0
        print(f"killing a node; {stored} of 65 models stored")
        cluster.remove_node(node, allow_graceful=False)
        killed.set()

    threading.Thread(target=wait_and_kill, daemon=True).start()
    return killed


def timed(audit: Path, out: Path, executor: str) -> float:
    from leakgauge.audit.conduct import conduct

    started = time.perf_counter()
    conduct(audit, out, [], device="cpu", quiet=False, command="test", executor=executor)
    return time.perf_counter() - started


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_audit_of_64_shadows_that_loses_a_node_is_the_same_audit(cluster: Any, tmp_path: Path) -> None:
    """With `-s` it prints what docs/results/ray.md records."""
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    log = tmp_path / "log"
    (tmp_path / "audit.toml").write_text(AUDIT.format(log=log, epochs=200))
    local, remote = tmp_path / "local", tmp_path / "ray"
    seconds = {}

    seconds["local"] = timed(tmp_path / "audit.toml", local, "local")
    log.unlink()
    killed = kill_a_node(cluster, nodes[0], log, remote)
    seconds["ray"] = timed(tmp_path / "audit.toml", remote, "ray")
    assert killed.is_set(), "the audit was over before a node could be killed"
    assert comparable(remote) == comparable(local)
    models = sorted(p.name for p in (local / "models").iterdir())
    assert models == sorted(p.name for p in (remote / "models").iterdir())
    assert len(models) == 65
    for name in models:
        weights = [folder / "models" / name / "model.safetensors" for folder in (local, remote)]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    # The block in training on the lost node was begun twice, or the target's if that came first; nothing else was.
    begun = [each["models"] for each in lines(log)]
    assert sum(begun) > 65
    assert len(begun) == 4
    print(f"blocks begun {begun}; seconds {seconds}; training log:")
    print((remote / "training-log.jsonl").read_text())
    # A second run finds everything.
    shutil.rmtree(remote / "scores")
    timed(tmp_path / "audit.toml", remote, "ray")
    assert len(lines(log)) == len(begun)
    assert comparable(remote) == comparable(local)


class Losing:
    """Tasks of which the first `losses` are lost for good."""

    def __init__(self, losses: int) -> None:
        self.ray, self.losses, self.sent = ray, losses, list[int]()

    def submit(self, position: int) -> None:
        self.sent.append(position)

    def fetch(self, position: int) -> Outcome:
        if self.losses:
            self.losses -= 1
            raise ray.exceptions.WorkerCrashedError
        return Outcome(None, ("a line",), {})


@pytest.mark.parametrize("losses", [0, 1, 2])
def test_a_block_that_ray_gave_up_is_sent_again_once(tmp_path: Path, losses: int) -> None:
    said, done = list[str](), list[int]()
    board = Board(blocks_of(tmp_path, (1, 1)), done.append, silent)
    tasks: Any = Losing(losses)
    executor = RayExecutor(say=said.append)
    assert board.take() == 0
    for _ in range(min(losses + 1, 2)):
        executor._conclude(tasks, board, 0)
    assert len([line for line in said if "sent again" in line]) == min(losses, 1)
    if losses < 2:
        assert (done, tasks.sent) == ([0], [0] * losses)
    else:
        assert (done, tasks.sent) == ([], [0])
        with pytest.raises(RuntimeError, match="2 times on the same models"):
            board.raise_first()
