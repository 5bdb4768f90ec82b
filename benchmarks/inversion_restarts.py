"""Restarts side by side in one program against one after another: equal seconds, and throughput on any device.

`python -m leakgauge.benchmarks.inversion_restarts OUT.md cuda:0` measures batch 8 with 16 restarts on a GPU.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..attacks.inversion.image_metrics import assign, psnr
from ..attacks.inversion.matching import Matching, match
from ..attacks.inversion.observation import Observation, local_update
from ..attacks.inversion.threat import ThreatModel
from ..audit.seeds import Seeds
from ..audit.types import Rows
from ..trainers.models import ModelSpec, build_model
from .inversion_data import cifar

RESTARTS, SECONDS = 8, 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """One way to run restarts: mean PSNR over victims, iterations of each restart, restart-iterations a second."""

    words: str
    device: str
    victims: int
    batch: int
    restarts: int
    seconds: float
    iterations: float
    per_second: float
    psnr: float


def race(
    rows: Rows, *, device: str = "cpu", model: str = "lenet", batch: int = 1, search: Matching | None = None
) -> list[Pace]:
    """Both ways on the same victims and starts, in turns, each victim with the same seconds (or iterations)."""
    search = search or Matching(restarts=RESTARTS, seconds=SECONDS, iterations=10**6)
    module = build_model(ModelSpec(model), rows.features.shape[1:], rows.classes, seeds=Seeds(3)).to(device)
    _one(rows, np.arange(batch), module, replace(search, seconds=None, iterations=2), device)
    found: dict[bool, list[tuple[float, float, float]]] = {True: [], False: []}
    for start in range(0, len(rows) - batch + 1, batch):
        for together in (True, False):
            way = replace(search, together=together)
            found[together].append(_one(rows, np.arange(start, start + batch), module, way, device))
    return [_pace(found[t], t, device, batch, search) for t in (True, False)]


def _one(rows: Rows, chosen: Any, module: Any, search: Matching, device: str) -> tuple[float, float, float]:
    """PSNR, iterations of each restart, and seconds of one victim batch."""
    import torch

    images = torch.from_numpy(rows.features[chosen]).to(device)
    labels = torch.from_numpy(rows.labels[chosen]).to(device)
    seen = images - 0.5
    gradients = local_update(module, seen, labels, steps=1, learning_rate=0.1)
    observation = Observation(
        gradients, tuple(n for n, _ in module.named_parameters()), ThreatModel(batch_size=len(chosen))
    )
    low = torch.full(images.shape[1:], -0.5, device=device)
    _wait(device)
    began = time.perf_counter()
    best = match(
        observation,
        module,
        labels,
        tuple(images.shape[1:]),
        search,
        low=low,
        high=-low,
        seeds=Seeds(5).at(int(chosen[0])),
    )
    _wait(device)
    seconds = time.perf_counter() - began
    truth = images.double().cpu().numpy()
    guess = (best.images + 0.5).double().cpu().numpy()
    each = best.iterations / (1 if search.together else search.restarts)
    return float(psnr(truth, guess[assign(truth, guess)]).mean()), each, seconds


def _wait(device: str) -> None:
    """Kernels on a GPU run on after the call has returned."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _pace(found: list[tuple[float, float, float]], together: bool, device: str, batch: int, search: Matching) -> Pace:
    quality, each, seconds = (np.array(column) for column in zip(*found, strict=True))
    words = "side by side, one program" if together else "one after another"
    rate = float(search.restarts * each.sum() / seconds.sum())
    return Pace(
        words,
        device,
        len(found),
        batch,
        search.restarts,
        float(seconds.mean()),
        float(each.mean()),
        rate,
        float(quality.mean()),
    )


def pace_lines(paces: list[Pace]) -> list[str]:
    """The table of restarts."""
    head = [
        "Restarts, both ways in turns on the same victims and starts; on a busy machine only their ratio counts.",
        "",
        "| restarts | device | victims | batch | number | seconds each | iterations of each | iterations / s | PSNR |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    return head + [
        f"| {p.words} | {p.device} | {p.victims} | {p.batch} | {p.restarts} | {p.seconds:.2f} | {p.iterations:.0f} "
        f"| {p.per_second:.0f} | {p.psnr:.1f} |"
        for p in paces
    ]


def main(path: Path, device: str) -> int:
    """Batch 8 of CIFAR-10 with 16 restarts on `device`, equal iterations; writes `path`."""
    rows = cifar().take(np.arange(2000, 2016))
    search = Matching(restarts=16, iterations=200)
    table = "\n".join(pace_lines(race(rows, device=device, model="convnet", batch=8, search=search))) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table, encoding="utf-8")
    print(table, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "cpu"))
