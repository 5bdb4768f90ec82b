"""What a person sees while an audit runs: a bar with time left on a terminal, one line a step otherwise."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from .types import Progress, silent


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
    def training(self, label: str, models: int) -> Iterator[Progress]:
        """A progress callback for one block of models."""
        started = time.perf_counter()
        if self.quiet:
            yield silent
        elif self.stream.isatty():
            with self._bar(label) as update:
                yield update
        else:
            with self._lines(label) as update:
                yield update
        self.say(f"  {label}: {models} model{'s' * (models != 1)} in {time.perf_counter() - started:.1f} s")

    @contextlib.contextmanager
    def _bar(self, label: str) -> Iterator[Progress]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bar(*columns, console=Console(file=self.stream), transient=True) as bar:
            task = bar.add_task(label, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextlib.contextmanager
    def _lines(self, label: str) -> Iterator[Progress]:
        started = last = time.perf_counter()

        def update(done: int, total: int) -> None:
            nonlocal last
            now = time.perf_counter()
            # A log needs a sign of life, not a frame rate.
            if now - last < 10 or not done:
                return
            last = now
            left = (now - started) * (total - done) / done
            self.say(f"  {label}: step {done} of {total}, about {left:.0f} s left")

        yield update
