"""Asking a model that somebody else runs: not faster than allowed, nothing twice, and again after a hiccup."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audit.errors import ConfigError, IncompatibleError

Ask = Callable[[NDArray[Any]], Any]
LOOKED_UP = 500
"""Keys in one look-up; SQLite allows some thousands."""


@dataclass(slots=True)
class RateLimit:
    """Lets calls pass at most `per_second` times a second, evenly spaced. `clock` and `sleep` count in seconds."""

    per_second: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _free: float = float("-inf")

    def __post_init__(self) -> None:
        if not self.per_second > 0:
            raise ConfigError(f"target.rate_limit must be > 0 calls a second, got {self.per_second}")

    def wait(self) -> None:
        """Return when the next call may go out."""
        now = self.clock()
        if self._free > now:
            self.sleep(self._free - now)
        self._free = max(now, self._free) + 1 / self.per_second


class AnswerMemory:
    """Answers on disk by the content of the question: `folder/answers.sqlite`, written after every call.

    `identity` says whose answers they are; another model's are never given. Delete the file to ask again.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.identity = identity.encode()
        # autocommit=False would need Python 3.12; "with connection" commits.
        self.connection = sqlite3.connect(folder / "answers.sqlite")
        columns = "key BLOB PRIMARY KEY, answer BLOB, label INTEGER"
        with self.connection:
            self.connection.execute(f"CREATE TABLE IF NOT EXISTS answers ({columns})")

    def key(self, record: NDArray[Any]) -> bytes:
        """The digest of one record's content, type and shape."""
        digest = hashlib.sha256(self.identity)
        digest.update(f"\x1f{record.dtype.str}{record.shape}\x1f".encode())
        digest.update(np.ascontiguousarray(record).tobytes())
        return digest.digest()

    def recall(self, keys: list[bytes]) -> dict[bytes, Any]:
        """The answers known among `keys`: an array each, or a number where a label was stored."""
        known: dict[bytes, Any] = {}
        for start in range(0, len(keys), LOOKED_UP):
            part = keys[start : start + LOOKED_UP]
            marks = ",".join("?" * len(part))
            found = self.connection.execute(f"SELECT key, answer, label FROM answers WHERE key IN ({marks})", part)
            for key, answer, label in found:
                values = np.frombuffer(answer, np.float64)
                known[bytes(key)] = values[0] if label else values
        return known

    def keep(self, keys: list[bytes], answers: NDArray[np.float64]) -> None:
        """Store answers (keys, classes) or labels (keys,), all or none."""
        label = answers.ndim == 1
        rows = [(key, answer.tobytes(), label) for key, answer in zip(keys, answers, strict=True)]
        with self.connection:
            self.connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)


@dataclass(frozen=True, slots=True)
class Service:
    """How a model behind a call may be asked.

    `rate_limit`: calls a second; `batch_size`: records a call; `memory`: answers that need not be asked again.
    """

    rate_limit: RateLimit | None = None
    batch_size: int = 256
    memory: AnswerMemory | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"target.batch_size must be at least 1, got {self.batch_size}")

    @classmethod
    def of(cls, name: str, labels_only: bool, folder: Path | None, options: Mapping[str, Any]) -> Service:
        """From the keys of `[target]`. `name` and what is asked of it tell stored answers apart."""
        rate = options.get("rate_limit")
        identity = f"{name} {'labels' if labels_only else 'probabilities'}"
        return cls(
            None if rate is None else RateLimit(rate),
            options.get("batch_size", next(f.default for f in fields(cls) if f.name == "batch_size")),
            None if folder is None else AnswerMemory(folder, identity),
        )

    def calls(self, ask: Ask) -> Ask:
        """`ask`, with these manners."""

        def polite(features: NDArray[Any]) -> NDArray[np.float64]:
            if self.memory is None:
                return self._asked(ask, features)
            return self._remembered(ask, features, self.memory)

        return polite

    def _asked(self, ask: Ask, features: NDArray[Any]) -> NDArray[np.float64]:
        parts = []
        for start in range(0, max(1, len(features)), self.batch_size):
            part = features[start : start + self.batch_size]
            if self.rate_limit is not None:
                self.rate_limit.wait()
            answers = np.asarray(ask(part), dtype=np.float64)
            if len(answers) != len(part):
                raise IncompatibleError(f"target: {len(answers)} answers to {len(part)} records; give one a record")
            parts.append(answers)
        return np.concatenate(parts)

    def _remembered(self, ask: Ask, features: NDArray[Any], memory: AnswerMemory) -> NDArray[np.float64]:
        keys = [memory.key(record) for record in features]
        known = memory.recall(list(dict.fromkeys(keys)))
        missing = {key: position for position, key in enumerate(keys) if key not in known}
        open_keys, positions = list(missing), list(missing.values())
        for start in range(0, len(open_keys), self.batch_size):
            batch = slice(start, start + self.batch_size)
            answers = self._asked(ask, features[positions[batch]])
            memory.keep(open_keys[batch], answers)
            known.update(zip(open_keys[batch], answers, strict=True))
        return np.array([known[key] for key in keys])
