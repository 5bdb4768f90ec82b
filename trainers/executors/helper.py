"""A worker process of our own: started with one thread, fed blocks through a pipe, gone when this process is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe

from ...audit.execution import Block, Work
from ...audit.types import Progress
from .failure import Failure

THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


class HelperLostError(Exception):
    """The worker process is gone."""


class Helper:
    """One worker process. Specs and rows travel to it by multiprocessing's own transport; models come back as files."""

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        # Not multiprocessing.Process: that would run the caller's main module again in the child.
        start = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            f"from leakgauge.trainers.executors.worker import serve; serve({theirs.fileno()})"
        )
        # The child reads its standard input to learn that we are gone, even by SIGKILL. In a session of its own it
        # does not hear the Ctrl-C that we answer by ending it.
        self._process = subprocess.Popen(
            [sys.executable, "-c", start],
            stdin=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            env={**os.environ, **THREADS},
            start_new_session=True,
        )
        theirs.close()

    def prepare(self, work: Work) -> Failure | None:
        """Send what all blocks share; what hinders the worker from reading it, or None."""
        try:
            self._pipe.send(work)
        except (EOFError, OSError) as error:
            raise HelperLostError from error
        except Exception as error:
            return Failure.of(error)
        answer = self._receive()
        return answer if isinstance(answer, Failure) else None

    def run(self, block: Block, *, progress: Progress, say: Callable[[str], None]) -> None:
        """As `run_block`, over there. Raises what that raised, or `HelperLostError`."""
        try:
            self._pipe.send(block)
        except OSError as error:
            raise HelperLostError from error
        while True:
            answer = self._receive()
            if answer is None:
                return
            if isinstance(answer, Failure):
                raise answer.error()
            if isinstance(answer, str):
                say(answer)
            else:
                progress(*answer)

    def kill(self) -> None:
        """End the process, wherever it is; whoever waits for its answer hears that it is lost."""
        self._process.kill()

    def end(self) -> int:
        """Wait until a lost or killed process has gone; its exit code."""
        self._pipe.close()
        if self._process.stdin:
            self._process.stdin.close()
        return self._process.wait()

    def _receive(self) -> Failure | str | tuple[int, int] | None:
        try:
            answer: Failure | str | tuple[int, int] | None = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise HelperLostError from error
        return answer


def connection(descriptor: int) -> Connection:
    """The worker's end of the pipe."""
    return Connection(descriptor)
