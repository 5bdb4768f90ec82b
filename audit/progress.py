"""What a person sees while an audit runs: a bar with time left on a terminal, one line a step otherwise."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import TextIO

from .types import Progress, silent

WINDOW = 60.0
"""Seconds over which the pace is taken: it changes when worker processes join, and when easy models are done."""


class Reporter:
    """Writes steps and progress to `stream` (standard error by default, so that `--json` output stays clean)."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self.timings: dict[str, float] = {}

    def say(self, text: str) -> None:
        """One line."""
        if not self.quiet:
            print(text, file=self.stream, flush=True)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Times a named step; steps of the same name add up in `timings` (seconds)."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - started

    @contextlib.contextmanager
    def training(self, label: str, models: int, what: str = "") -> Iterator[Progress]:
        """A progress callback, of any unit, for so many models; `what` is done to them where it is not training."""
        started = time.perf_counter()
        if self.quiet:
            yield silent
        elif self.stream.isatty():
            with self._bar(label) as update:
                yield update
        else:
            yield self._lines(label)
        done = f"{models} model{'s' * (models != 1)}{what and ' '}{what}"
        self.say(f"  {label}: {done} in {time.perf_counter() - started:.1f} s")

    @contextlib.contextmanager
    def _bar(self, label: str) -> Iterator[Progress]:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("  {task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        console = Console(file=self.stream)
        with Bar(*columns, console=console, transient=True, speed_estimate_period=WINDOW) as bar:
            task = bar.add_task(label, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def _lines(self, label: str) -> Progress:
        last, pace = time.perf_counter(), Pace()

        def update(done: int, total: int) -> None:
            nonlocal last
            now = time.perf_counter()
            pace.note(now, done)
            # A log needs a sign of life, not a frame rate.
            if now - last < 10:
                return
            left = pace.left(now, total - done)
            if left is not None:
                last = now
                self.say(f"  {label}: {100 * done // total} %, about {left:.0f} s left")

        return update


class Pace:
    """How fast work has gone lately. What was done before the first note (a resumed checkpoint) counts for nothing."""

    def __init__(self) -> None:
        self._notes: deque[tuple[float, int]] = deque()

    def note(self, now: float, done: int) -> None:
        """So much is done now."""
        if self._notes and now - self._notes[-1][0] < WINDOW / 100:
            return
        self._notes.append((now, done))
        while len(self._notes) > 2 and now - self._notes[1][0] > WINDOW:
            self._notes.popleft()

    def left(self, now: float, remaining: int) -> float | None:
        """Seconds for the remaining work; None while nothing has moved."""
        if not self._notes:
            return None
        first, last = self._notes[0], self._notes[-1]
        if last[1] <= first[1]:
            return None
        return (now - first[0]) * remaining / (last[1] - first[1])
