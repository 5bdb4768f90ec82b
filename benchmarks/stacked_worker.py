"""One of the processes that `benchmarks.stacked` runs side by side: a line of JSON in, a line of JSON out.

`stacked.Workers` writes commands; each is answered when its models are trained. Times are of the machine's monotonic
clock, the same in all processes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..audit.registry import TRAINERS
from ..audit.seeds import Seeds
from ..audit.types import Job, Rows, Trained

ROWS = 1200
SEEDS = Seeds(7)


def digits() -> Rows:
    """1200 of scikit-learn's digits, (records, 1, 8, 8) in [0, 1]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[:ROWS, None] / 16).astype(np.float32)
    return Rows(images, bunch.target[:ROWS].astype(np.int64), tuple(map(str, range(ROWS))), 10, "digits")


def job(number: int) -> Job:
    """Model `number`: each row inside by its own fair coin. The same in every process and on both sides."""
    seeds = SEEDS.at("shadow", number)
    return Job(seeds.at("membership").generator().random(ROWS) < 0.5, seeds)


def work(command: dict[str, Any], data: Rows) -> dict[str, Any]:
    """Train the models that `command` names, stacked or one after another; only training is inside the times."""
    trainer = TRAINERS.load(command["trainer"])(**command["spec"])
    jobs = [job(number) for number in range(command["first"], command["first"] + command["models"])]
    started, cpu = time.monotonic(), time.process_time()
    if command["stacked"]:
        trained = trainer.fit_many(data, jobs, device="cpu")
    else:
        trained = [trainer.fit(data, each.inside, seeds=each.seeds, device="cpu") for each in jobs]
    cpu, ended = time.process_time() - cpu, time.monotonic()
    return {
        "started": started,
        "ended": ended,
        "cpu": cpu,
        "steps": sorted({model.steps for model in trained}),
        "accuracy": _held_out(data, jobs, trained),
    }


def main() -> None:
    """Answer commands until standard input ends."""
    import torch

    torch.set_num_threads(1)
    data = digits()
    for line in sys.stdin:
        print(json.dumps(work(json.loads(line), data)), flush=True)


def _held_out(data: Rows, jobs: Sequence[Job], trained: Sequence[Trained]) -> list[float]:
    """Accuracy of each model on the rows it was not trained on."""
    shares = []
    for each, model in zip(jobs, trained, strict=True):
        guesses = model.target.log_probabilities(data.features).argmax(1)
        shares.append(float((guesses == data.labels)[~each.inside].mean()))
    return shares


if __name__ == "__main__":
    main()
