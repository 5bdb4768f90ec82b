"""Speed of simulated federated learning: 1000 clients, 20 rounds, an MLP; cost of a round against the cohort.

`leakgauge bench federated-speed`. Clients hold one or two digits each in the first table, thirty synthetic rows each
in the second, so that local work and not the bookkeeping is measured.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..audit.seeds import Seeds
from ..audit.types import Rows
from ..trainers.federated.trainer import Clients, DpFederated, Federated
from .federated_audit import digits

CLIENTS, ROUNDS, SECONDS = 1000, 20, 60.0
COHORTS = (50, 100, 200, 400, 800)
LINEAR = 0.98
"""Share of the variance of seconds a round that a straight line must explain."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one training."""

    name: str
    cohort: int
    rounds: int
    seconds: float


def run(out: Path) -> int:
    """Measure, print, write `federated-speed.md` and `.json`; 0 if all 1000 clients in 20 rounds take under a minute
    and the cost of a round grows in a straight line with the cohort."""
    rows, many = digits(), synthetic()
    whole = [
        measure("FedAvg, digits, all clients", _trainer(Federated, CLIENTS), rows),
        measure("DP-FedAvg, digits, all clients", _trainer(DpFederated, CLIENTS, noise_multiplier=1.0), rows),
        measure("FedAvg, 30 rows a client, all clients", _trainer(Federated, CLIENTS), many),
    ]
    steps = [
        min(
            (measure("FedAvg, 30 rows a client", _trainer(Federated, c, rounds=5), many) for _ in range(3)),
            key=lambda t: t.seconds,
        )
        for c in COHORTS
    ]
    explained = linearity(steps)
    good = all(t.seconds < SECONDS for t in whole) and explained >= LINEAR
    table = _table(whole, steps, explained)
    path = out / "federated-speed.md" if not out.suffix else out
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table, encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps([asdict(t) for t in whole + steps], indent=1) + "\n", "utf-8")
    print(table, end="")
    return 0 if good else 1


def measure(name: str, trainer: Clients, data: Rows) -> Timing:
    """One training on all rows."""
    started = time.perf_counter()
    trainer.fit(data, np.ones(len(data), np.bool_), seeds=Seeds(1), device="cpu")  # type: ignore[attr-defined]
    return Timing(name, round(trainer.cohort), trainer.rounds, time.perf_counter() - started)


def linearity(timings: list[Timing]) -> float:
    """R squared of a straight line through seconds against the cohort."""
    x, y = np.array([t.cohort for t in timings]), np.array([t.seconds for t in timings])
    fitted = np.polyval(np.polyfit(x, y, 1), x)
    return float(1 - np.sum((y - fitted) ** 2) / np.sum((y - y.mean()) ** 2))


def synthetic(rows: int = 30 * CLIENTS) -> Rows:
    """Rows of the shape of digits with labels that can be learned."""
    generator = Seeds(2).at("synthetic").generator()
    labels = generator.integers(0, 10, rows)
    features = generator.normal(size=(10, 64))[labels] + generator.normal(size=(rows, 64))
    return Rows(features.astype(np.float32), labels, tuple(map(str, range(rows))), 10, "synthetic")


def _trainer(kind: type[Clients], cohort: int, rounds: int = ROUNDS, **own: float) -> Clients:
    return kind(hidden=(128,), clients=CLIENTS, cohort=cohort, rounds=rounds, **own)  # type: ignore[arg-type]


def _table(whole: list[Timing], steps: list[Timing], explained: float) -> str:
    lines = ["| Training | Clients a round | Rounds | Seconds |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {t.name} | {t.cohort} | {t.rounds} | {t.seconds:.1f} |" for t in whole]
    lines += ["", "| Clients a round | Milliseconds a round | Milliseconds a client |", "| ---: | ---: | ---: |"]
    for t in steps:
        each = 1000 * t.seconds / t.rounds
        lines.append(f"| {t.cohort} | {each:.0f} | {each / t.cohort:.2f} |")
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    lines += ["", f"A straight line explains {explained:.4f} of the variance. OMP_NUM_THREADS {threads}."]
    return "\n".join(lines) + "\n"
