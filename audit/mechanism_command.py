"""A program that reads rows and prints an output, as a mechanism."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import IncompatibleError, PrerequisiteError

SEED_VARIABLE = "LEAKGAUGE_SEED"


@dataclass(frozen=True, slots=True)
class Command:
    """`argv` run once an output: rows on standard input, one a line, a row's cells separated by commas.

    What it prints is read as JSON if it is JSON, else as words, of which those that are numbers become numbers. A
    fresh integer is in the environment variable `LEAKGAUGE_SEED`, for programs that want one; a program with
    randomness of its own may ignore it. Costs one process start a run: plan with some thousand runs, not a million.
    """

    argv: tuple[str, ...]
    timeout_seconds: float = 60.0

    def __call__(self, dataset: Iterable[Any], rng: np.random.Generator) -> Any:
        """One output. A missing program is a `PrerequisiteError`, a failing one an `IncompatibleError`."""
        environment = {**os.environ, SEED_VARIABLE: str(int(rng.integers(2**63)))}
        text = "".join(f"{_line(row)}\n" for row in dataset)
        try:
            done = subprocess.run(
                list(self.argv),
                input=text,
                env=environment,
                capture_output=True,
                text=True,
                timeout=self.timeout_seconds,
                check=False,
            )
        except FileNotFoundError as error:
            raise PrerequisiteError(f"mechanism command {self.argv[0]!r} not found: give its full path") from error
        except subprocess.TimeoutExpired as error:
            raise IncompatibleError(
                f"mechanism command {self.argv[0]!r} ran longer than {self.timeout_seconds:g} s: raise timeout_seconds"
            ) from error
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise IncompatibleError(f"mechanism command {self.argv[0]!r} exited with {done.returncode}: {last}")
        return read_output(done.stdout)


def read_output(text: str) -> Any:
    """A printed output as JSON, or as its words.

    >>> read_output("[1, null]"), read_output("yes 3.5"), read_output("nan")
    ([1, None], ['yes', 3.5], ['nan'])
    """
    try:
        return json.loads(text, parse_constant=str)
    except json.JSONDecodeError:
        return [_number_or_word(word) for word in text.split()]


def _number_or_word(word: str) -> float | str:
    try:
        number = float(word)
    except ValueError:
        return word
    return number if number == number else word


def _line(row: Any) -> str:
    return ",".join(str(cell) for cell in row) if isinstance(row, list | tuple | np.ndarray) else str(row)
