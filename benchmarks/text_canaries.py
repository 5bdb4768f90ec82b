"""Which text canaries certify most at equal budget: `python -m leakgauge.benchmarks.text_canaries`.

One-run audits of fine-tuning with new-token (Panda et al. 2025, arXiv 2503.06808), random-token and high-temperature
(Mitchell and Andrew 2026, arXiv 2606.10481) canaries: as many canaries, the same rows, steps, noise and coins, over
several seeds, paired. Then repeats of the audit on a tiny correct fine-tuning and on broken ones.
"""

from __future__ import annotations

import json
import statistics as stats
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from ..attacks.canary.text import Kind, TextCanary
from ..audit.bounds import OneRun
from ..audit.canaries import CanaryEvidence
from ..audit.design import CoinTrials, coin_flips
from ..audit.metrics import membership_metrics
from ..audit.seeds import Seeds
from ..audit.types import Claim, Rows
from ..trainers.data import DataSpec, encode, load_table
from ..trainers.language import DpLanguage, Language
from .text_canary_variants import BROKEN, REPEATED

ROWS, CANARIES, GUESSES, DELTA, SEEDS = 32, 240, 80, 1e-5, range(10, 16)
KINDS: tuple[Kind, ...] = ("new-token", "random-token", "high-temperature")
REPEATS, BROKEN_REPEATS = 100, 5
CONFIDENCE, VIOLATION_CONFIDENCE = 0.95, 0.999
PUBLIC: dict[str, Any] = {
    "public": "prose-public",
    "public_epochs": 0.3,
    "length": 16,
    "layers": 1,
    "width": 32,
}
TUNING: dict[str, Any] = {"epochs": 4, "batch_size": ROWS, "nominal_rows": ROWS, "optimizer": "sgd"}
PRIVATE = DpLanguage(**PUBLIC, **TUNING, epsilon=8.0, delta=DELTA, max_grad_norm=0.1, learning_rate=0.1)
PLAIN = Language(**PUBLIC, **TUNING, sampling="poisson", learning_rate=0.1)
TINY = DpLanguage(
    # A fresh model; new tokens follow one byte of this very file.
    public=__file__,
    layers=1,
    width=8,
    heads=2,
    length=4,
    epsilon=1.0,
    delta=DELTA,
    max_grad_norm=0.1,
    epochs=2,
    batch_size=8,
    nominal_rows=8,
    optimizer="sgd",
    learning_rate=0.1,
)
TINY_CANARY, TINY_GUESSES = TextCanary(canaries=100, prefix_tokens=1), 50
OFTEN = 8
"""How often the broken audit inserts a canary whose claim is on one record."""


@dataclass(frozen=True, slots=True)
class Row:
    """One audit: guesses that are right, the AUC, what `one-run` certifies at both confidences, and seconds taken."""

    trainer: str
    kind: str
    seed: int
    correct: int
    auc: float
    epsilon: float
    judged: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Paired:
    """New-token less another kind: the mean difference over seeds and its t interval at 95 %, in epsilon and AUC."""

    trainer: str
    other: str
    epsilon: tuple[float, float, float]
    auc: tuple[float, float, float]


def run(out: Path) -> int:
    """Run everything, print tables, write them to `out` (a folder gets `text-canaries.md` and `.json`).

    Returns 0 when new tokens certify more than random tokens under DP (interval above 0), no audit of a correct
    training is above its claim at 0.999, and every broken training is; else 1.
    """
    claim = PRIVATE.planned_claim(ROWS)
    rows = compare()
    pairs = [paired(rows, trainer, other) for trainer in ("dp", "plain") for other in KINDS[1:]]
    correct = repeats("correct", REPEATS)
    broken = {name: repeats(name, BROKEN_REPEATS) for name in BROKEN}
    text, good = report(claim, rows, pairs, correct, broken)
    path = out / "text-canaries.md" if not out.suffix else out
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    every = [r for each in broken.values() for r in each]
    plain: dict[str, Sequence[Any]] = {"rows": rows, "pairs": pairs, "correct": correct, "broken": every}
    values = {name: [asdict(each) for each in part] for name, part in plain.items()}
    path.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    print(text, end="")
    return 0 if good else 1


def compare(seeds: Sequence[int] = SEEDS, kinds: Sequence[Kind] = KINDS) -> list[Row]:
    """Every kind on both trainers, seed by seed."""
    data = private_rows(ROWS)
    claim = PRIVATE.planned_claim(ROWS)
    out: list[Row] = []
    for seed in seeds:
        for name, trainer in (("dp", PRIVATE), ("plain", PLAIN)):
            for kind in kinds:
                attack = TextCanary(kind=kind, canaries=CANARIES, prefix_tokens=1)
                protects = claim if name == "dp" else None
                out.append(audit(name, trainer, attack, data, protects, GUESSES, seed))
                print(f"{out[-1]}", file=sys.stderr, flush=True)
    return out


def repeats(name: str, count: int) -> list[Row]:
    """The one-run audit of the tiny fine-tuning, over and over; `name` is "correct" or one of `BROKEN`."""
    around: Callable[[], AbstractContextManager[None]] = nullcontext if name == "correct" else BROKEN[name]
    trainer, attack = TINY, TINY_CANARY
    if name == REPEATED:
        attack = replace(attack, repetitions=OFTEN)
    claim = trainer.planned_claim(8)
    data = private_rows(8, length=4)
    with around():
        return [audit(name, trainer, attack, data, claim, TINY_GUESSES, 1000 + number) for number in range(count)]


def audit(name: str, trainer: Any, attack: TextCanary, data: Rows, claim: Claim | None, guesses: int, seed: int) -> Row:
    """One training run with canaries, and what its guesses certify. The coins are the same for every kind."""
    from ..trainers.language.hosting import host_text_canaries

    begun, seeds = time.perf_counter(), Seeds(seed)
    ids = tuple(f"canary-{number}" for number in range(attack.canaries))
    canaries = attack.canary_set(coin_flips(ids, 1, seeds=seeds.at("coins")).inside[0])
    everybody = np.ones(len(data), dtype=bool)
    seen = host_text_canaries(trainer.tuning(), data, everybody, canaries, claim, seeds=seeds.at("model"), device="cpu")
    evidence = CanaryEvidence(canaries.ids, seen.transcript, seen.public, attack.needs.access, attack.unit)
    scores = attack.score_canaries(evidence, seeds=seeds)
    counts = CoinTrials(scores.values, canaries.inside, canaries.ids).count(guesses)
    reported, judged = (
        OneRun().certify(counts, delta=DELTA, confidence=level).epsilon for level in (CONFIDENCE, VIOLATION_CONFIDENCE)
    )
    auc = membership_metrics(scores.values, canaries.inside, confidence=CONFIDENCE).auc.value
    return Row(name, attack.kind, seed, counts.correct, auc, reported, judged, time.perf_counter() - begun)


def paired(rows: Sequence[Row], trainer: str, other: str) -> Paired:
    """New-token less `other`, seed by seed (Student 1908)."""
    found = {(r.kind, r.seed): r for r in rows if r.trainer == trainer}
    pairs = [(found["new-token", s], found[other, s]) for k, s in found if k == other]
    return Paired(
        trainer,
        other,
        mean_interval([a.epsilon - b.epsilon for a, b in pairs]),
        mean_interval([a.auc - b.auc for a, b in pairs]),
    )


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Mean and Student's interval; the mean alone, three times, of a single value."""
    mean = stats.fmean(values)
    if len(values) < 2:
        return mean, mean, mean
    half = float(student.ppf((1 + confidence) / 2, len(values) - 1)) * stats.stdev(values) / len(values) ** 0.5
    return mean, mean - half, mean + half


def private_rows(count: int, length: int = 16) -> Rows:
    """`count` windows of the private prose, as bytes."""
    spec = DataSpec.of({"name": "prose-private", "text_encoding": "bytes", "text_length": length}, seed=0)
    table = load_table(spec)
    rows = encode(table, np.ones(len(table.records), dtype=bool), spec).rows
    chosen = Seeds(0).at("text-canaries").generator().permutation(len(rows))[:count]
    return rows.take(np.sort(chosen))


def report(
    claim: Claim,
    rows: Sequence[Row],
    pairs: Sequence[Paired],
    correct: Sequence[Row],
    broken: dict[str, list[Row]],
) -> tuple[str, bool]:
    """The tables in Markdown, and whether every requirement is met."""
    tiny = TINY.planned_claim(8).epsilon_at(DELTA)
    lines = [
        f"{CANARIES} canaries, {GUESSES} guesses, delta {DELTA:g}, {ROWS} real rows, {len(set(r.seed for r in rows))} "
        f"seeds; claim of the DP trainer: {claim.epsilon_at(DELTA):.2f}. Bounds `one-run`.",
        "",
        "| trainer | canaries | mean AUC | mean epsilon at 0.95 | lowest .. highest | highest at 0.999 |",
        "|---|---|---:|---:|---|---:|",
        *(_line(rows, trainer, kind) for trainer in ("dp", "plain") for kind in KINDS),
        "",
        "| trainer | difference | epsilon | AUC |",
        "|---|---|---|---|",
        *(f"| {p.trainer} | new-token less {p.other} | {_show(p.epsilon)} | {_show(p.auc)} |" for p in pairs),
        "",
        f"| tiny fine-tuning, claim {tiny:.2f} | repeats | highest at 0.999 | above the claim at 0.999 | at 0.95 |",
        "|---|---:|---:|---:|---:|",
        *(_repeated(name, each, tiny) for name, each in {"correct": list(correct), **broken}.items()),
        "",
    ]
    checks = {
        "under DP new tokens certify more than random tokens (interval of the difference above 0)": next(
            p for p in pairs if (p.trainer, p.other) == ("dp", "random-token")
        ).epsilon[1]
        > 0,
        "no audit of a correct training above its claim at 0.999": all(r.judged <= tiny for r in correct)
        and all(r.judged <= claim.epsilon_at(DELTA) for r in rows if r.trainer == "dp"),
        "every broken training above its claim at 0.999": all(
            r.judged > tiny for each in broken.values() for r in each
        ),
    }
    lines += [f"* {'yes' if met else 'NO'}: {text}" for text, met in checks.items()]
    return "\n".join(lines) + "\n", all(checks.values())


def _line(rows: Sequence[Row], trainer: str, kind: str) -> str:
    here = [r for r in rows if (r.trainer, r.kind) == (trainer, kind)]
    found = [r.epsilon for r in here]
    return (
        f"| {trainer} | {kind} | {stats.fmean(r.auc for r in here):.3f} | {stats.fmean(found):.2f} "
        f"| {min(found):.2f} .. {max(found):.2f} | {max(r.judged for r in here):.2f} |"
    )


def _repeated(name: str, rows: Sequence[Row], claim: float) -> str:
    above = [sum(getattr(r, key) > claim for r in rows) for key in ("judged", "epsilon")]
    return f"| {name} | {len(rows)} | {max(r.judged for r in rows):.2f} | {above[0]} | {above[1]} |"


def _show(interval: tuple[float, float, float]) -> str:
    return f"{interval[0]:+.3f} [{interval[1]:+.3f}, {interval[2]:+.3f}]"


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/text-canaries")))
