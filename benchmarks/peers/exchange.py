"""Asking the peers: one process in their own environment, arrays in an npz, request and answer in JSON files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import PrerequisiteError, StaleArtifactError
from .install import COMMAND, environment_folder
from .outcome import AttackOutcome, CallOutcome

STARTER = "import sys; sys.path.append(sys.argv.pop(1)); from worker.main import main; sys.exit(main(sys.argv[1:]))"
"""The folder goes last on the path, so that nothing of ours hides a module of the peers."""
PROGRESS = "progress: "
"""How the worker marks the lines of standard error that are for the user."""


@dataclass(frozen=True, slots=True)
class Peers:
    """The interpreter that has the peers, and the folder that holds the package `worker`."""

    interpreter: Path
    folder: Path = Path(__file__).resolve().parent

    @classmethod
    def find(cls) -> Peers:
        """The environment at $LEAKGAUGE_PEERS, by default `.peers` in the current folder.

        `PrerequisiteError` with the command that makes it, when it is not there.
        """
        folder = environment_folder()
        interpreter = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        if not interpreter.is_file():
            raise PrerequisiteError(
                f"bench peers: no environment of the peers at {folder}; they need older packages than ours, so make "
                f"one of their own (about 2 minutes): {COMMAND}"
            )
        return cls(interpreter.absolute())

    def bounds(
        self, request: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> tuple[list[CallOutcome], dict[str, str]]:
        """What each call claims on each fixture, and the versions of the peers' packages."""
        reply = self._ask("bounds", request, arrays)
        try:
            outcomes = [
                CallOutcome(r["call"], r["fixture"], _floats(r["values"]), float(r["seconds"]), str(r["error"]))
                for r in reply["rows"]
            ]
            _check_complete(
                [(o.fixture, o.call) for o in outcomes],
                [(fixture, call) for fixture, calls in request["calls"].items() for call in calls],
            )
            _check_lengths(outcomes, request["calls"])
            return outcomes, dict(reply["versions"])
        except (KeyError, TypeError, ValueError) as error:
            raise StaleArtifactError(f"bench peers: the peers' answer cannot be read: {error!r}") from None

    def attacks(self, request: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> list[AttackOutcome]:
        """What each attack scores on each target."""
        reply = self._ask("attacks", request, arrays)
        try:
            outcomes = [
                AttackOutcome(
                    str(r["attack"]),
                    int(r["target"]),
                    _floats(r["scores"]),
                    tuple(map(int, r["judged"])),
                    float(r["seconds"]),
                    str(r["error"]),
                )
                for r in reply["rows"]
            ]
            _check_complete(
                [(str(o.target), o.attack) for o in outcomes],
                [(str(target), attack) for target in range(request["targets"]) for attack in request["attacks"]],
            )
            return outcomes
        except (KeyError, TypeError, ValueError) as error:
            raise StaleArtifactError(f"bench peers: the peers' answer cannot be read: {error!r}") from None

    def _ask(self, task: str, request: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="leakgauge-peers-") as name:
            folder = Path(name)
            (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
            np.savez(folder / "arrays.npz", **dict(arrays))  # type: ignore[arg-type]
            paths = [str(folder / file) for file in ("request.json", "arrays.npz", "reply.json")]
            command = [str(self.interpreter), "-I", "-W", "ignore", "-c", STARTER, str(self.folder), task, *paths]
            # One thread, as for ours: the two sides take turns on the same cores.
            threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            code, last = _run(command, {**os.environ, **threads})
            if code != 0:
                raise PrerequisiteError(
                    f"bench peers: the peers' process at {self.interpreter} ended with code {code}: "
                    f"{last or 'no output'}; to make its environment anew: {COMMAND}"
                )
            return _parsed(folder / "reply.json")


def _run(command: list[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and last line of standard error; progress is shown, what the peers print is not."""
    last = ""
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stderr or ():
            if line.startswith(PROGRESS):
                print("  " + line.removeprefix(PROGRESS).rstrip(), flush=True)
            elif line.strip():
                last = line.strip()
    return process.returncode, last


def _parsed(path: Path) -> dict[str, Any]:
    try:
        reply = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StaleArtifactError(f"bench peers: the peers' answer is no JSON: {error}") from None
    if not isinstance(reply, dict):
        raise StaleArtifactError(f"bench peers: the peers' answer is a {type(reply).__name__}, expected an object")
    return reply


def _floats(values: list[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _check_complete(seen: list[tuple[str, str]], expected: list[tuple[str, str]]) -> None:
    """Nothing may disappear: every call asked for is answered exactly once."""
    if sorted(seen) != sorted(expected):
        missing = sorted(set(expected) - set(seen)) or "none"
        raise StaleArtifactError(f"bench peers: {len(expected)} rows asked, {len(seen)} answered; missing: {missing}")


def _check_lengths(outcomes: list[CallOutcome], calls: Mapping[str, Mapping[str, int]]) -> None:
    for outcome in outcomes:
        asked = calls[outcome.fixture][outcome.call]
        if not outcome.error and len(outcome.values) != asked:
            raise StaleArtifactError(f"bench peers: {outcome.call} answered {len(outcome.values)} trials of {asked}")
