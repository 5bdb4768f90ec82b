"""The suite `attacks`: cell by cell, resumable, with the time left; then a leaderboard and plots."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.store import digest, write_atomically
from . import tables
from .cases import CASES, SEED, TRAINERS
from .cell import arena, play
from .roster import Entry, roster

VERSION = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """What is run. `records` overrides the data sets' own numbers of audit records."""

    shadows: int = 16
    targets: int = 4
    records: int | None = None
    datasets: tuple[str, ...] = tuple(CASES)
    trainers: tuple[str, ...] = tuple(TRAINERS)
    attacks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.shadows < 4 or self.shadows % 2:
            raise ConfigError(f"bench attacks: shadows must be even and at least 4, got {self.shadows}")
        if self.targets < 2:
            raise ConfigError(f"bench attacks: an interval needs at least 2 targets, got {self.targets}")
        if self.records is not None and self.records < 250:
            raise ConfigError(f"bench attacks: TPR at 1 % FPR needs at least 250 records, got {self.records}")


def run(out: Path, settings: Settings | None = None) -> int:
    """Play every cell that `out`/cells lacks, then write attacks.json, attacks.md and two plots into the folder `out`.

    A cell is played again when its settings or any attack's source changed. Returns 1 when an attack failed in a cell,
    else 0. `PrerequisiteError` when the data is not there.
    """
    settings = settings or Settings()
    entries, skipped = roster(settings.shadows, settings.attacks)
    cells = [(dataset, trainer) for dataset in settings.datasets for trainer in settings.trainers]
    (out / "cells").mkdir(parents=True, exist_ok=True)
    started, played, done = time.perf_counter(), 0, []
    for position, (dataset, trainer) in enumerate(cells):
        key = _key(dataset, trainer, settings, entries)
        path = out / "cells" / f"{dataset}-{trainer}.json"
        stored = _stored(path, key)
        if stored is None:
            left = _left(started, played, len(cells) - position)
            _say(f"{position + 1}/{len(cells)} {dataset}, {trainer}{left}")
            stored = {"dataset": dataset, "trainer": trainer, "key": key, **_cell(dataset, trainer, settings, entries)}
            write_atomically(path, json.dumps(stored, indent=1, allow_nan=False))
            played += 1
        done.append(stored)
    return _report(out, settings, done, skipped, time.perf_counter() - started)


def _cell(dataset: str, trainer: str, settings: Settings, entries: list[Entry]) -> dict[str, Any]:
    case = CASES[dataset]
    records = settings.records or case.records
    audit, population = case.load(records)
    started = time.perf_counter()
    # The same coins and streams for every way of training: differences between them are not luck.
    played = arena(
        TRAINERS[trainer](case, records // 2),
        audit,
        population,
        targets=settings.targets,
        shadows=settings.shadows,
        seeds=Seeds(SEED).at("bench-attacks", dataset),
    )
    result = play(entries, played, _say)
    _say(f"    trained in {played.seconds:.0f} s, attacked in {time.perf_counter() - started - played.seconds:.0f} s")
    return result


def _key(dataset: str, trainer: str, settings: Settings, entries: list[Entry]) -> str:
    case = CASES[dataset]
    records = settings.records or case.records
    spec = TRAINERS[trainer](case, records // 2)
    attacks = {entry.label: entry.digest() for entry in entries}
    size = [settings.shadows, settings.targets, records]
    return digest({"version": VERSION, "trainer": [spec.version, asdict(spec)], "size": size, "attacks": attacks})


def _stored(path: Path, key: str) -> dict[str, Any] | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stored if isinstance(stored, dict) and stored.get("key") == key else None


def _report(out: Path, settings: Settings, cells: list[dict[str, Any]], skipped: dict[str, str], seconds: float) -> int:
    from .plots import plot

    document = {"schema": "leakgauge/bench-attacks/1", "settings": asdict(settings), "cells": cells, "skipped": skipped}
    write_atomically(out / "attacks.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
    text = tables.markdown(cells, settings.shadows, settings.targets, skipped)
    write_atomically(out / "attacks.md", text)
    for measure in ("auc", "tpr_at_0.01"):
        plot(cells, measure, out / f"attacks-{measure.partition('_')[0]}.svg")
    print(tables.leaderboard(cells))
    print(f"{seconds:.0f} s; written: {out / 'attacks.md'}, attacks.json, attacks-auc.svg, attacks-tpr.svg")
    return int(any(row["error"] for cell in cells for row in cell["rows"]))


def _left(started: float, played: int, cells: int) -> str:
    if not played:
        return ""
    minutes = (time.perf_counter() - started) / played * cells / 60
    return f" (about {minutes:.0f} min left)" if minutes >= 1 else " (less than a minute left)"


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)
