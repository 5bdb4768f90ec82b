"""What a worker process does: read the work, then train block after block until its pipe is closed."""

from __future__ import annotations

import os
import sys
import threading
import time

from ...audit.execution import Block, Work
from .block import aligned, run_block
from .failure import Failure
from .helper import connection

SECONDS_BETWEEN = 0.2
"""Progress is sent at most this often."""


def serve(descriptor: int) -> None:
    """Answer over the pipe at this file descriptor until its other end is closed."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    pipe = connection(descriptor)
    try:
        work: Work = aligned(pipe.recv())
    except Exception as error:
        pipe.send(Failure.of(error))
        return
    pipe.send(None)
    sent = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal sent
        if time.monotonic() - sent >= SECONDS_BETWEEN:
            pipe.send((done, total))
            sent = time.monotonic()

    while True:
        try:
            block: Block = pipe.recv()
        except EOFError:
            return
        outcome: Failure | None = None
        try:
            run_block(work, block, progress=progress, say=pipe.send)
        except Exception as error:
            outcome = Failure.of(error)
        pipe.send(outcome)


def _die_with_parent() -> None:
    """At once: a parent started again resumes the same checkpoints, and two writers would destroy them."""
    sys.stdin.buffer.read()
    os._exit(1)
