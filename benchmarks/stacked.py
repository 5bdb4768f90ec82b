"""Models per second of a whole machine, stacked against one after another: `leakgauge bench stacked`.

Both sides are two one-thread processes side by side, one a core. On one side each process trains its models one after
another, on the other each trains its half of them stacked. The sides take turns, so that a busy machine slows both, and
train the same models (rows, seeds, steps), so that their accuracy must agree.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..trainers.dpsgd import DpSgd
from ..trainers.sgd import Sgd
from .stacked_worker import ROWS

if TYPE_CHECKING:
    from torch import nn

PROCESSES, STACK, ALONE, REPEATS = 2, 64, 4, 5
"""Processes on each side; models of one process in a round, stacked and one after another; rounds."""

POOLED = "leakgauge.benchmarks.stacked:pooled_cnn"


@dataclass(frozen=True, slots=True)
class Case:
    """A trainer, and how many times faster issue 4 asks the stack to be (None: shown for information)."""

    trainer: Sgd | DpSgd
    asked: float | None = None


def _private(**options: Any) -> DpSgd:
    return DpSgd(noise_multiplier=1.0, nominal_rows=ROWS // 2, **options)


CASES: dict[str, Case] = {
    "mlp": Case(Sgd(nominal_rows=ROWS // 2), 8),
    "cnn": Case(Sgd(model="cnn", nominal_rows=ROWS // 2), 8),
    "cnn-pooled": Case(Sgd(model=POOLED, nominal_rows=ROWS // 2)),
    "dp-sgd, hooks": Case(_private(), 12),
    "dp-sgd, ghost": Case(_private(clipping="ghost"), 12),
    "dp-sgd cnn, hooks": Case(_private(model="cnn")),
    "dp-sgd cnn, ghost": Case(_private(model="cnn", clipping="ghost")),
}
"""Digits: an MLP 64-128-10, a CNN with strides, one with pooling; 30 epochs of about 600 rows in batches of 64. DP-SGD
one after another is Opacus."""


@dataclass(frozen=True, slots=True)
class Round:
    """One side's turn: the models trained by number, seconds from the first start to the last end, CPU seconds of all
    processes, steps, and each model's held-out accuracy."""

    numbers: tuple[int, ...]
    seconds: float
    cpu: float
    steps: tuple[int, ...]
    accuracy: tuple[float, ...]

    @property
    def models(self) -> int:
        """How many were trained."""
        return len(self.numbers)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Alternating rounds of both sides."""

    case: str
    asked: float | None
    alone: tuple[Round, ...]
    stacked: tuple[Round, ...]

    @property
    def speedup(self) -> float:
        """Models per second, stacked over one after another: the median over rounds of neighbouring turns."""
        return statistics.median(
            (s.models / s.seconds) / (a.models / a.seconds) for a, s in zip(self.alone, self.stacked, strict=True)
        )

    @property
    def cpu_speedup(self) -> float:
        """The same in CPU seconds, which other processes on the machine disturb less."""
        return statistics.median(
            (s.models / s.cpu) / (a.models / a.cpu) for a, s in zip(self.alone, self.stacked, strict=True)
        )

    def accuracy(self, rounds: Sequence[Round]) -> float:
        """Mean held-out accuracy of the models that both sides have trained, as found in `rounds` of one side."""
        both = {number for each in self.alone for number in each.numbers}
        both &= {number for each in self.stacked for number in each.numbers}
        found = {n: share for each in rounds for n, share in zip(each.numbers, each.accuracy, strict=True) if n in both}
        return statistics.fmean(found.values())


class Workers:
    """Worker processes with one thread each, that start a round together."""

    def __init__(self, count: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", "-m", "leakgauge.benchmarks.stacked_worker"]
        self._processes = [
            subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(count)
        ]

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.communicate()

    def turn(self, trainer: Sgd | DpSgd, *, stacked: bool, first: Sequence[int], models: int) -> Round:
        """Every process trains `models` models, process p those from number `first[p]` on. Raises `RuntimeError` when a
        process has died."""
        for process, start in zip(self._processes, first, strict=True):
            command = {"trainer": trainer.name, "spec": asdict(trainer), "stacked": stacked, "first": start}
            assert process.stdin is not None
            process.stdin.write(json.dumps({**command, "models": models}) + "\n")
            process.stdin.flush()
        answers = [self._answer(process) for process in self._processes]
        return Round(
            tuple(number for start in first for number in range(start, start + models)),
            max(a["ended"] for a in answers) - min(a["started"] for a in answers),
            sum(a["cpu"] for a in answers),
            tuple(sorted({step for a in answers for step in a["steps"]})),
            tuple(share for a in answers for share in a["accuracy"]),
        )

    @staticmethod
    def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"a benchmark worker ended with exit code {process.wait()}; its error is above")
        return dict(json.loads(line))


def run(out: Path) -> int:
    """Measure every case, print a table and write it to `out` (a folder gets `stacked.md`). Returns 0."""
    path = out / "stacked.md" if out.is_dir() or not out.suffix else out
    path.parent.mkdir(parents=True, exist_ok=True)
    table = markdown(compare(CASES, repeats=REPEATS))
    path.write_text(table, encoding="utf-8")
    print(table, end="")
    return 0


def compare(
    cases: Mapping[str, Case], *, stack: int = STACK, alone: int = ALONE, repeats: int = REPEATS
) -> list[Comparison]:
    """Every case in turn; an untimed round first pays for imports and accounting."""
    found = []
    with ExitStack() as scope:
        workers = scope.enter_context(Workers(PROCESSES))
        for name, case in cases.items():
            starts = [process * stack for process in range(PROCESSES)]
            for stacked in (False, True):
                workers.turn(case.trainer, stacked=stacked, first=starts, models=2 if stacked else 1)
            rounds: dict[bool, list[Round]] = {False: [], True: []}
            for repeat in range(repeats):
                offset = (repeat * alone) % max(1, stack - alone + 1)
                first = [start + offset for start in starts]
                rounds[False].append(workers.turn(case.trainer, stacked=False, first=first, models=alone))
                rounds[True].append(workers.turn(case.trainer, stacked=True, first=starts, models=stack))
            found.append(Comparison(name, case.asked, tuple(rounds[False]), tuple(rounds[True])))
            print(f"{name}: {found[-1].speedup:.1f} times faster", file=sys.stderr, flush=True)
    return found


def markdown(comparisons: Sequence[Comparison]) -> str:
    """A table of the comparisons, and what they were measured with."""
    import torch

    lines = [
        f"{PROCESSES} processes of one thread on each side, {os.cpu_count()} cores ({_processor()}), torch "
        f"{torch.__version__}; the sides take turns. Seconds a model are of the whole machine: wall-clock time of "
        "a round over models trained in it. Accuracy is on rows a model was not trained on, mean over the models that "
        "both sides trained.",
        "",
        "| case | steps a model | accuracy one by one | accuracy stacked | seconds a model one by one | stacked | "
        "times faster | in CPU seconds | asked |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [_row(comparison) for comparison in comparisons]
    return "\n".join(lines) + "\n"


def _row(c: Comparison) -> str:
    steps = sorted({step for each in (*c.alone, *c.stacked) for step in each.steps})
    figures = [
        ", ".join(map(str, steps)),
        *(f"{c.accuracy(rounds):.4f}" for rounds in (c.alone, c.stacked)),
        *(f"{statistics.median(r.seconds / r.models for r in rounds):.5f}" for rounds in (c.alone, c.stacked)),
        f"{c.speedup:.1f}",
        f"{c.cpu_speedup:.1f}",
        "" if c.asked is None else f"{c.asked:g}",
    ]
    return f"| {c.case} | {' | '.join(figures)} |"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def pooled_cnn(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Two blocks of 3x3 convolution, ReLU and 2x2 max pooling, and one linear layer: the conventional small CNN."""
    from torch import nn

    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (height // 4) * (width // 4), classes),
    )


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/stacked")))
