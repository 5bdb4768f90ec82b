"""Which blocks wait, run, are done or failed: what the workers of one run share, behind one lock."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence

from ...audit.execution import Block
from ...audit.types import Progress

LOSSES = 2
"""A block whose worker died so often is not tried again: the next to die might be the audit itself."""


class Board:
    """Blocks are taken in order. After the first failure no more are taken, and those under way are waited for, so that
    the failure raised is the first in the order of the blocks, whoever was faster."""

    def __init__(self, blocks: Sequence[Block], finished: Callable[[int], None], progress: Progress) -> None:
        self.closed = threading.Event()
        self._change = threading.Condition(threading.RLock())
        self._waiting = deque(range(len(blocks)))
        self._running: set[int] = set()
        self._failures: dict[int, BaseException] = {}
        self._losses: Counter[int] = Counter()
        self._finished, self._progress = finished, progress
        self._models = [len(block.jobs) for block in blocks]
        self._shares = [0.0] * len(blocks)

    @property
    def waiting(self) -> bool:
        """Whether there is a block to take."""
        with self._change:
            return bool(self._waiting) and not self._failures and not self.closed.is_set()

    @property
    def settled(self) -> bool:
        """Whether nothing waits that will be taken, and nothing runs."""
        with self._change:
            return not self._running and not self.waiting

    def take(self) -> int | None:
        """The next block, or None."""
        with self._change:
            if not self.waiting:
                return None
            position = self._waiting.popleft()
            self._running.add(position)
            return position

    def wait(self, seconds: float) -> None:
        """Until something changes, at most so long."""
        with self._change:
            if not self.settled and not self.waiting:
                self._change.wait(seconds)

    def report(self, position: int, done: int, total: int) -> None:
        """So much of one block is done. Passed on in thousandths of a model, since blocks differ in size and unit."""
        with self._change:
            self._shares[position] = done / total if total else 1.0
            each = zip(self._shares, self._models, strict=True)
            self._progress(round(1000 * sum(share * models for share, models in each)), 1000 * sum(self._models))

    def finish(self, position: int) -> None:
        """The block's results are in place."""
        with self._change:
            self._finished(position)
            self.report(position, 1, 1)
            self._leave(position)

    def fail(self, position: int, error: BaseException) -> None:
        """The block cannot be trained."""
        with self._change:
            self._failures[position] = error
            self._leave(position)

    def lose(self, position: int, why: str) -> None:
        """The block's worker died. It waits again, or fails when that happened before."""
        with self._change:
            self._losses[position] += 1
            if self._losses[position] >= LOSSES:
                self.fail(position, RuntimeError(f"{why}, {LOSSES} times on the same models: is there enough memory?"))
                return
            self._waiting.appendleft(position)
            self._shares[position] = 0.0
            self._leave(position)

    def close(self) -> None:
        """Nothing more is taken."""
        with self._change:
            self.closed.set()
            self._change.notify_all()

    def raise_first(self) -> None:
        """Raise the failure of the earliest block, if any."""
        if self._failures:
            raise self._failures[min(self._failures)]

    def _leave(self, position: int) -> None:
        self._running.discard(position)
        self._change.notify_all()
