"""A Ray cluster: each block is a task, and a task whose worker or node is lost runs again elsewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import platform
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...audit.bank import installed_version
from ...audit.errors import IncompatibleError, PrerequisiteError
from ...audit.execution import Block, Work
from ...audit.types import Progress, silent
from .block import aligned, run_block
from .board import Board
from .failure import Failure
from .local import LocalExecutor

RETRIES = 3
"""How often Ray repeats a task whose process or node died, and how often a task that it gave up is sent again."""

Files = dict[str, NDArray[np.uint8]]
"""A model's files and its answers, by path below the block's folder."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task says about itself: why it failed, what it had to say, and the optimizer steps it executed."""

    failure: Failure | None
    said: tuple[str, ...]
    counters: Files


class RayExecutor:
    """Trains blocks as tasks of one core (or one GPU) each on the cluster at `RAY_ADDRESS`; without that variable, on a
    Ray of its own on this machine. Rows travel once a run; saved models and answers come back and are stored here,
    block by block, so that whatever happens to the cluster or to this process, a stored block is not trained again."""

    name: ClassVar[str] = "ray"

    def __init__(self, *, say: Callable[[str], None]) -> None:
        if importlib.util.find_spec("ray") is None:
            raise PrerequisiteError("--executor ray needs the package ray: pip install 'leakgauge[ray]'")
        self._say = say
        # Models that are stored here are asked here.
        self._local = LocalExecutor(say=say)

    def run(self, work: Work, blocks: Sequence[Block], *, finished: Callable[[int], None], progress: Progress) -> None:
        """As in `Executor`."""
        if any(block.stored for block in blocks):
            self._local.run(work, blocks, finished=finished, progress=progress)
            return
        board = Board(blocks, finished, progress)
        tasks = Tasks(self._connected(), work, blocks)
        try:
            while (position := board.take()) is not None:
                tasks.submit(position)
            while not board.settled:
                for position in tasks.ready(seconds=1.0):
                    self._conclude(tasks, board, position)
        finally:
            board.close()
            tasks.cancel()
        board.raise_first()

    def _conclude(self, tasks: Tasks, board: Board, position: int) -> None:
        try:
            outcome = tasks.fetch(position)
        except tasks.ray.exceptions.RayTaskError as error:
            board.fail(position, Failure.of(error.cause or error).error())
        except tasks.ray.exceptions.RayError as error:
            why = " ".join(str(error).split())[:200]
            board.lose(position, f"Ray lost a block ({type(error).__name__}: {why})")
            if board.take() is not None:
                self._say(f"  block {position + 1} was lost and is sent again ({type(error).__name__})")
                tasks.submit(position)
        else:
            for line in outcome.said:
                self._say(line)
            if outcome.failure is None:
                board.finish(position)
            else:
                board.fail(position, outcome.failure.error())

    def _connected(self) -> Any:
        """The package `ray`, connected. A Ray that we started or joined is left when this executor goes."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray reports home by default.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # The coming default; silences a warning.
        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # We report them.
        import ray

        if ray.is_initialized():
            return ray
        address = os.environ.get("RAY_ADDRESS") or "local"
        options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        if address == "local":
            options["num_cpus"] = self._local.workers
        try:
            ray.init(address=address, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise PrerequisiteError(
                f"--executor ray: no Ray cluster at RAY_ADDRESS={address!r} ({' '.join(str(error).split())[:200]}): "
                "start one with `ray start --head`, or unset RAY_ADDRESS to use this machine"
            ) from None
        weakref.finalize(self, ray.shutdown)
        return ray


class Tasks:
    """The blocks of one run as Ray tasks. Each returns an `Outcome`, then one `Files` a model, so that no message holds
    more than one model. Ray repeats a task whose process or node died, and remakes results that were lost with it."""

    def __init__(self, ray: Any, work: Work, blocks: Sequence[Block]) -> None:
        self.ray, self._blocks = ray, blocks
        gpu = work.device.startswith("cuda")
        self._options = {"num_gpus": 1, "num_cpus": 0} if gpu else {"num_cpus": 1}
        # On its node a task sees one GPU, the first.
        # In a list Ray passes the reference on as it is, so that the task can read it once it knows where to look.
        self._share = [ray.put(replace(work, device="cuda:0") if gpu else work)]
        self._task = ray.remote(remote_block)
        self._pending: dict[Any, int] = {}
        self._results: dict[int, list[Any]] = {}

    def submit(self, position: int) -> None:
        """Send a block, for the first time or again."""
        block = self._blocks[position]
        task = self._task.options(
            num_returns=1 + len(block.jobs), max_retries=RETRIES, scheduling_strategy="SPREAD", **self._options
        )
        refs = task.remote(self._share, list(sys.path), block, package_versions())
        self._results[position] = refs
        self._pending[refs[0]] = position

    def ready(self, *, seconds: float) -> list[int]:
        """Blocks whose tasks have ended, well or badly, after waiting at most so long for one."""
        done, _ = self.ray.wait(list(self._pending), num_returns=1, timeout=seconds)
        return [self._pending.pop(ref) for ref in done]

    def fetch(self, position: int) -> Outcome:
        """The outcome of a block, its files written to where the block wants them."""
        head, *models = self._results.pop(position)
        block = self._blocks[position]
        outcome: Outcome = self.ray.get(head)
        shutil.rmtree(block.trained, ignore_errors=True)
        if outcome.failure is None:
            for model in models:
                write_files(block.checkpoint, self.ray.get(model))
        # Beside what an earlier attempt on this machine may have counted.
        write_files(block.checkpoint / "ray", outcome.counters)
        return outcome

    def cancel(self) -> None:
        """End what is still running."""
        for ref in self._pending:
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.cancel(ref, force=True)


def remote_block(share: list[Any], path: list[str], block: Block, versions: dict[str, str]) -> list[Outcome | Files]:
    """The task: `run_block` in a temporary folder of whichever node it runs on."""
    said: list[str] = []
    with tempfile.TemporaryDirectory(prefix="leakgauge-") as folder:
        here = replace(block, checkpoint=Path(folder) / "block")
        try:
            require_versions(versions)
            run_block(aligned(read_work(share, path)), here, progress=silent, say=said.append)
        except Exception as error:
            return [Outcome(Failure.of(error), tuple(said), {}), *({} for _ in block.jobs)]
        models: list[Outcome | Files] = [
            read_files(here.checkpoint, here.trained / str(k)) for k in range(len(block.jobs))
        ]
        counters = read_files(here.checkpoint, here.checkpoint, "steps.json")
        return [Outcome(None, tuple(said), counters), *models]


def read_work(share: list[Any], path: list[str]) -> Work:
    """What all blocks share. `path` is where the driver finds its modules: on this node too, if it is the same machine
    or has the same folders. `PrerequisiteError` where the trainer's module is not found."""
    import ray

    sys.path.extend(entry for entry in path if entry not in sys.path)
    try:
        work: Work = ray.get(share[0])
    except ray.exceptions.RayError as error:
        if "No module named" not in str(error):
            raise
        missing = str(error).rpartition("No module named ")[2].split()[0]
        raise PrerequisiteError(
            f"Ray node {platform.node()} has no module {missing}: install it there, or the folder it lies in"
        ) from None
    return work


def require_versions(expected: dict[str, str]) -> None:
    """`IncompatibleError` where this node's packages are not the driver's: its models would be others than the store
    says."""
    seen = package_versions()
    for name, version in expected.items():
        if seen[name] != version:
            raise IncompatibleError(
                f"Ray node {platform.node()} has {name} {seen[name]}, this machine has {version}: install the same"
            )


def package_versions() -> dict[str, str]:
    """Versions that shape what a block gives."""
    return {name: installed_version(name) for name in ("leakgauge", "torch", "opacus", "numpy")}


def read_files(root: Path, folder: Path, pattern: str = "*") -> Files:
    """Every file below `folder`, by its path below `root`."""
    files = (path for path in sorted(folder.rglob(pattern)) if path.is_file())
    return {path.relative_to(root).as_posix(): np.fromfile(path, np.uint8) for path in files}


def write_files(root: Path, files: Files) -> None:
    """The opposite of `read_files`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content.tofile(path)
