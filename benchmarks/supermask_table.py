"""`leakgauge bench supermask-table`: what masks and weights leak, at equal utility, over seeds; resumable cell by cell.

Settings are chosen on tuning seeds, never on reported ones: within a family every entry takes the setting whose mean
accuracy is nearest to the level that all of the family reach.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..audit.errors import ConfigError
from ..audit.store import digest, write_atomically
from .supermask_cell import CANARY_GUESSES, GUESSES, TESTED_DELTA, measure, try_candidates
from .supermask_roster import RECORDS, Entry, roster

VERSION = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """What is run: label noise of the digits, reported and tuning seeds, and the entries by name (all)."""

    label_noise: float = 0.1
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    tuning: tuple[int, ...] = (901, 902)
    entries: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.seeds) < 2:
            raise ConfigError(f"bench supermask-table: an interval needs at least 2 seeds, got {len(self.seeds)}")
        both = set(self.seeds) & set(self.tuning)
        if both or not self.tuning:
            raise ConfigError(
                f"bench supermask-table: tuning seeds must be others than the reported ones, got {sorted(self.tuning)} "
                f"and {sorted(self.seeds)}"
            )

    def chosen(self) -> list[Entry]:
        """The entries played."""
        known = {entry.name: entry for entry in roster()}
        for name in self.entries or ():
            if name not in known:
                raise ConfigError(f"bench supermask-table: no entry {name!r}; known: {', '.join(known)}")
        return [entry for name, entry in known.items() if self.entries is None or name in self.entries]


def run(out: Path, settings: Settings | None = None) -> int:
    """Tune and measure what the folder `out`/cells lacks; then write supermask-table.json, .md and .svg into `out`.

    A cell is measured again when its settings changed. Returns 0.
    """
    settings = settings or Settings()
    entries = settings.chosen()
    started, seeds = time.process_time(), len(settings.seeds) + len(settings.tuning)
    work = _Work(out / "cells", len(entries) * seeds)
    tried = {
        entry.name: [
            work.done("tune", entry, settings, seed, lambda e, s: try_candidates(e, settings.label_noise, s))
            for seed in settings.tuning
        ]
        for entry in entries
    }
    picked = {name: pick for family in _families(entries) for name, pick in choose(family, tried).items()}
    cells = [
        {
            "entry": entry.name,
            "seed": seed,
            **work.done(
                f"measure {picked[entry.name]}",
                entry,
                settings,
                seed,
                lambda e, s: measure(e, picked[e.name], settings.label_noise, s),
            ),
        }
        for seed in settings.seeds
        for entry in entries
    ]
    return _report(out, settings, entries, picked, cells, time.process_time() - started)


@dataclass(slots=True)
class _Work:
    """Cells on disk, and how far the work is."""

    folder: Path
    total: int
    position: int = 0
    played: int = 0
    spent: float = 0.0

    def done(self, what: str, entry: Entry, settings: Settings, seed: int, make: Any) -> dict[str, Any]:
        """The stored result of a cell; made and stored where it is missing or was made otherwise."""
        self.position += 1
        key = _key(what, entry, settings.label_noise, seed)
        path = self.folder / f"{key[:32]}.json"
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            stored = {}
        if stored.get("key") == key:
            found: dict[str, Any] = stored["result"]
            return found
        print(f"{self.position}/{self.total} {entry.name}, seed {seed}: {what}{self._left()}", flush=True)
        started = time.perf_counter()
        result: dict[str, Any] = make(entry, seed)
        self.spent, self.played = self.spent + time.perf_counter() - started, self.played + 1
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"key": key, "result": result}, allow_nan=False))
        return result

    def _left(self) -> str:
        if not self.played:
            return ""
        return f" (about {self.spent / self.played * (self.total - self.position + 1) / 60:.1f} min left)"


def choose(family: list[Entry], tried: dict[str, list[dict[str, float]]]) -> dict[str, str]:
    """The setting of every entry of a family: the nearest in mean accuracy to the least of the entries' best, which
    all can reach; of equally near ones the first."""
    means = {e.name: {k: float(np.mean([t[k] for t in tried[e.name]])) for k in e.candidates} for e in family}
    level = min(max(m.values()) for m in means.values())
    return {name: min(found, key=lambda k: abs(found[k] - level)) for name, found in means.items()}


def _families(entries: list[Entry]) -> list[list[Entry]]:
    return [[e for e in entries if e.family == family] for family in dict.fromkeys(e.family for e in entries)]


def _key(what: str, entry: Entry, label_noise: float, seed: int) -> str:
    specs = {name: [t.name, t.version, asdict(t)] for name, t in entry.candidates.items()}
    canaries = None if entry.canaries is None else [entry.canaries.name, asdict(entry.canaries)]
    sizes = [RECORDS, GUESSES, CANARY_GUESSES, TESTED_DELTA, label_noise, seed]
    return digest({"version": VERSION, "what": what, "candidates": specs, "canaries": canaries, "sizes": sizes})


def _report(
    out: Path,
    settings: Settings,
    entries: list[Entry],
    picked: dict[str, str],
    cells: list[dict[str, Any]],
    took: float,
) -> int:
    from .supermask_report import markdown, plot

    document = {
        "schema": "leakgauge/bench-supermask-table/1",
        "settings": asdict(settings),
        "chosen": picked,
        "cells": cells,
    }
    write_atomically(out / "supermask-table.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
    text = markdown(entries, cells, settings.label_noise)
    write_atomically(out / "supermask-table.md", text)
    plot(entries, cells, out / "supermask-table.svg")
    print(text)
    print(f"{took:.0f} s of processor time; written: {out / 'supermask-table.md'}, .json, .svg")
    return 0
