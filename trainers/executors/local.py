"""The cores of this machine: this process trains, and when that takes long, worker processes help it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

from ...audit.errors import ConfigError
from ...audit.execution import Block, Work
from ...audit.types import Progress
from .block import aligned, run_block
from .board import Board
from .helper import Helper, HelperLostError

PATIENCE = 4.0
"""Seconds of training before helpers are started, about what starting one costs. Whoever starts them then has never
lost more than half the time that was needed, and a short audit starts none."""

WORKERS = "LEAKGAUGE_WORKERS"
"""Environment variable: how many processes may train at once, this one included."""


class LocalExecutor:
    """Trains blocks one after another in this process, one thread each. When blocks still wait after `patience`
    seconds, further processes, up to `workers` in all, take blocks too. On a GPU all blocks train in this process."""

    name: ClassVar[str] = "local"

    def __init__(self, *, say: Callable[[str], None], workers: int | None = None, patience: float = PATIENCE) -> None:
        self._say, self._patience = say, patience
        self.workers = allowed_workers() if workers is None else workers

    def run(self, work: Work, blocks: Sequence[Block], *, finished: Callable[[int], None], progress: Progress) -> None:
        """As in `Executor`."""
        work, board, helpers = aligned(work), Board(blocks, finished, progress), list[Helper]()
        workers = min(self.workers, len(blocks)) if work.device == "cpu" else 1
        threads = [
            threading.Thread(target=self._help, args=(work, blocks, board, helpers), daemon=True)
            for _ in range(workers - 1)
        ]
        for thread in threads:
            thread.start()
        try:
            while not board.settled:
                position = board.take()
                if position is None:
                    board.wait(1.0)
                else:
                    self._run_here(work, blocks[position], board, position)
        finally:
            board.close()
            _dismiss(threads, helpers)
        board.raise_first()

    def _run_here(self, work: Work, block: Block, board: Board, position: int) -> None:
        try:
            run_block(work, block, progress=partial(board.report, position), say=self._say)
        except Exception as error:
            board.fail(position, error)
        else:
            board.finish(position)

    def _help(self, work: Work, blocks: Sequence[Block], board: Board, helpers: list[Helper]) -> None:
        """One helper's thread. It ends when nothing is left to take, or when helping turns out to be impossible."""
        if board.closed.wait(self._patience):
            return
        while board.waiting:
            try:
                helper = Helper()
            except OSError as error:
                self._say(f"  trained in one process, no other can be started ({error})")
                return
            helpers.append(helper)
            try:
                if not self._ready(helper, work, board):
                    return
                self._feed(helper, blocks, board)
            except HelperLostError:
                continue
            finally:
                helper.kill()
                helper.end()

    def _ready(self, helper: Helper, work: Work, board: Board) -> bool:
        """Whether the helper has read the work; otherwise why it could not is said."""
        try:
            failure = helper.prepare(work)
        except HelperLostError:
            hindrance = f"one ended with exit code {helper.end()} while starting"
        else:
            if failure is None:
                return True
            hindrance = f"{failure.name}: {failure.message}"
        if not board.closed.is_set():
            self._say(f"  trained in one process, others cannot help ({hindrance})")
        return False

    def _feed(self, helper: Helper, blocks: Sequence[Block], board: Board) -> None:
        while (position := board.take()) is not None:
            try:
                helper.run(blocks[position], progress=partial(board.report, position), say=self._say)
                board.finish(position)
            except HelperLostError:
                board.lose(position, f"a worker process died with exit code {helper.end()}")
                raise
            except Exception as error:
                board.fail(position, error)


def _dismiss(threads: Sequence[threading.Thread], helpers: list[Helper]) -> None:
    """Kill the helpers, those included that a thread starts at this very moment, and wait for the threads."""
    while any(thread.is_alive() for thread in threads):
        for helper in list(helpers):
            helper.kill()
        for thread in threads:
            thread.join(0.05)


def allowed_workers() -> int:
    """`LEAKGAUGE_WORKERS`, or the cores that this process may use."""
    given = os.environ.get(WORKERS)
    if given is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not given.isdigit() or int(given) < 1:
        raise ConfigError(f"{WORKERS} must be a whole number from 1, got {given!r}")
    return int(given)
