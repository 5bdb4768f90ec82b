"""Seconds per model, stacked against one after another, in one process: `python -m leakgauge.benchmarks.stacked`."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..audit.seeds import Seeds
from ..audit.types import Job, Rows
from ..trainers.dpsgd import DpSgd
from ..trainers.sgd import Sgd

ROWS, MODELS, SINGLE_MODELS, REPEATS = 1200, 64, 3, 3
CASES: dict[str, Sgd | DpSgd] = {
    "mlp": Sgd(nominal_rows=ROWS // 2),
    "cnn": Sgd(model="cnn", nominal_rows=ROWS // 2),
    "dp-sgd": DpSgd(noise_multiplier=1.0, nominal_rows=ROWS // 2),
    "dp-sgd-ghost": DpSgd(noise_multiplier=1.0, nominal_rows=ROWS // 2, clipping="ghost"),
    "dp-sgd-cnn": DpSgd(model="cnn", noise_multiplier=1.0, nominal_rows=ROWS // 2),
}
"""Digits, 64-128-10 and a small CNN, 30 epochs of about 600 rows in batches of 64."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Median seconds per model, and optimizer steps per model."""

    case: str
    stacked: float
    one_by_one: float
    steps: int

    @property
    def speedup(self) -> float:
        """How many times faster a stacked model is."""
        return self.one_by_one / self.stacked


def run(out: Path) -> int:
    """Measure every case, print a table and write it to `out` (a folder gets `stacked.md`). Returns 0."""
    table = markdown([measure(case, trainer, digits()) for case, trainer in CASES.items()])
    path = out / "stacked.md" if out.is_dir() or not out.suffix else out
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table, encoding="utf-8")
    print(table, end="")
    return 0


def measure(case: str, trainer: Sgd | DpSgd, data: Rows, *, models: int = MODELS) -> Timing:
    """Both ways in turn, so that a busy machine slows both. An untimed round first pays for imports and accounting."""
    generator = Seeds(7).at("benchmark").generator()
    jobs = [Job(generator.random(len(data)) < 0.5, Seeds(7).at("shadow", k)) for k in range(models)]
    warm = _alone(trainer, data, jobs[:1])
    trainer.fit_many(data, jobs[:2], device="cpu")
    stacked, alone = [], []
    for repeat in range(REPEATS):
        started = time.perf_counter()
        trainer.fit_many(data, jobs, device="cpu")
        stacked.append((time.perf_counter() - started) / len(jobs))
        alone += _seconds(trainer, data, [jobs[(repeat * SINGLE_MODELS + i) % len(jobs)] for i in range(SINGLE_MODELS)])
    return Timing(case, statistics.median(stacked), statistics.median(alone), warm)


def digits() -> Rows:
    """1200 of scikit-learn's digits, (records, 1, 8, 8) in [0, 1]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[:ROWS, None] / 16).astype(np.float32)
    return Rows(images, bunch.target[:ROWS].astype(np.int64), tuple(map(str, range(ROWS))), 10, "digits")


def markdown(timings: Sequence[Timing]) -> str:
    """A table of the timings, with the threads they were measured with."""
    import torch

    lines = [
        f"Seconds per model, {MODELS} models stacked against one after another, torch {torch.__version__}, "
        f"{torch.get_num_threads()} thread(s).",
        "",
        "| case | steps a model | one by one | stacked | times faster |",
        "|---|---:|---:|---:|---:|",
    ]
    for t in timings:
        lines.append(f"| {t.case} | {t.steps} | {t.one_by_one:.4f} | {t.stacked:.4f} | {t.speedup:.1f} |")
    return "\n".join(lines) + "\n"


def _seconds(trainer: Sgd | DpSgd, data: Rows, jobs: Sequence[Job]) -> list[float]:
    taken = []
    for job in jobs:
        started = time.perf_counter()
        _alone(trainer, data, [job])
        taken.append(time.perf_counter() - started)
    return taken


def _alone(trainer: Sgd | DpSgd, data: Rows, jobs: Sequence[Job]) -> int:
    return [trainer.fit(data, job.inside, seeds=job.seeds, device="cpu").steps for job in jobs][-1]


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/stacked")))
