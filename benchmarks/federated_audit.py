"""Client canaries in DP-FedAvg against the statistical limit, correct runs against their claim, and broken servers:
`leakgauge bench federated-audit`. A few minutes on one core.

Power: q 0.01, sigma 1, T 1000, 1000 canary clients, 200 guesses fixed beforehand, every global model seen. Soundness:
many cheap runs, none of which may certify more than its claim at confidence 0.999. Broken servers keep the claim.
"""

from __future__ import annotations

import json
import statistics as stats
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..attacks.canary.client import ClientCanary
from ..audit.bounds import OneRun
from ..audit.canaries import CanaryEvidence
from ..audit.design import CoinTrials, coin_flips
from ..audit.seeds import Seeds
from ..audit.types import Access, Rows, Unit
from ..trainers.federated.rounds import Federation
from ..trainers.federated.trainer import DpFederated
from ..trainers.federated.training import fit_canaries
from .federated_variants import HalfNoise, NoClientClip, WeightedMean, WrongDivisor

LIMIT, SHARE = 0.51, 0.8
"""Median bound of an optimal attack in the power case (limit table), and the share of it to reach."""
CONFIDENCE, JUDGED = 0.95, 0.999

POWER = DpFederated(hidden=(16,), clients=20, cohort=0.2, rounds=1000, noise_multiplier=1.0, batch_size=64)
CHEAP = DpFederated(hidden=(16,), clients=20, cohort=2, rounds=40, noise_multiplier=1.5, batch_size=64)
LOCAL = DpFederated(
    hidden=(16,), clients=20, cohort=2, rounds=40, noise="local", noise_multiplier=5.0, batch_size=64, view="updates"
)


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table: `runs` audits of `trainer`, with its mechanism replaced by `federation`.

    `must`: no run may be above its claim at 0.999 ("below"), every run must be ("above").
    """

    name: str
    trainer: DpFederated
    attack: ClientCanary
    runs: int
    must: str
    federation: type[Federation] = Federation
    guesses: int = 200
    delta: float = 1e-5


CASES = (
    Case("power: correct, every round seen", POWER, ClientCanary(), 20, "below"),
    Case("correct, cheap, every global model", CHEAP, ClientCanary(), 100, "below"),
    Case("correct, cheap, final model", CHEAP, ClientCanary(view="final-model", statistic="final"), 30, "below"),
    Case("correct, cheap, local noise, every update", LOCAL, ClientCanary(view="updates"), 30, "below"),
    Case("weighted mean", CHEAP, ClientCanary(), 5, "above", WeightedMean),
    Case("wrong divisor", CHEAP, ClientCanary(), 5, "above", WrongDivisor),
    Case("no client clip", CHEAP, ClientCanary(), 5, "above", NoClientClip),
    Case("half the noise, power case", POWER, ClientCanary(), 5, "either", HalfNoise, 300, 1e-6),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One audit: what the claim promises at the tested delta, right guesses, and the bound at both confidences."""

    case: str
    seed: int
    promised: float
    correct: int
    reported: float
    judged: float
    ceiling: float


def run(out: Path) -> int:
    """Run all cases, print a table, write `federated-audit.md` and `.json` into `out` (or to the path given).

    Returns 0 if the attack reaches its share of the limit, no correct run certifies above its claim at 0.999, and every
    broken server is caught in every run; else 1.
    """
    runs = [r for case in CASES for r in audits(case)]
    table, good = report(runs)
    path = out / "federated-audit.md" if not out.suffix else out
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table, encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps([asdict(r) for r in runs], indent=1) + "\n", encoding="utf-8")
    print(table, end="")
    return 0 if good else 1


def audits(case: Case, data: Rows | None = None) -> list[Run]:
    """All runs of a case, one after another, each with coins and seeds of its own."""
    rows = digits() if data is None else data
    done = []
    for seed in range(case.runs):
        done.append(audit(case, rows, seed))
        print(f"{case.name} {seed}: {done[-1].correct} {done[-1].reported:.3f}", file=sys.stderr, flush=True)
    return done


def audit(case: Case, data: Rows, seed: int) -> Run:
    """One audit of one training run."""
    seeds = Seeds(seed).at("federated-audit", case.name)
    ids = case.attack.canary_set(np.zeros(case.attack.canaries, np.bool_)).ids
    inside = coin_flips(ids, 1, seeds=seeds.at("coins"), unit=Unit.CLIENT).inside[0]
    canaries = case.attack.canary_set(inside)
    seen = fit_canaries(
        case.trainer.recipe(),
        data,
        np.ones(len(data), np.bool_),
        canaries,
        delta=case.trainer.delta,
        seeds=seeds.at("train"),
        device="cpu",
        federation=case.federation,
    )
    evidence = CanaryEvidence(ids, seen.transcript, seen.public, Access.TRANSCRIPT, Unit.CLIENT)
    scores = case.attack.score_canaries(evidence, seeds=seeds.at("attack"))
    counts = CoinTrials(scores.values, inside, ids, Unit.CLIENT).count(case.guesses)
    reported, judged = (OneRun().certify(counts, delta=case.delta, confidence=c) for c in (CONFIDENCE, JUDGED))
    assert seen.claim is not None
    promised = seen.claim.epsilon_at(case.delta)
    return Run(case.name, seed, promised, counts.correct, reported.epsilon, judged.epsilon, judged.ceiling)


def report(runs: list[Run]) -> tuple[str, bool]:
    """The table in Markdown, and whether everything is as it must be."""
    lines = [
        "| Case | Runs | Claim | Median certified (0.95) | Ceiling (0.999) | Above claim at 0.95 | at 0.999 | Right |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    good = True
    for case in CASES:
        own = [r for r in runs if r.case == case.name]
        median = stats.median(r.reported for r in own)
        loud, sure = (sum(getattr(r, key) > r.promised for r in own) for key in ("reported", "judged"))
        fine = {"below": sure == 0, "above": sure == len(own)}.get(case.must, True)
        if case is CASES[0]:
            fine &= median >= SHARE * LIMIT
        good &= fine
        figures = f"{own[0].promised:.3f} | {median:.3f} | {own[0].ceiling:.2f} | {loud} | {sure}"
        lines.append(f"| {case.name} | {len(own)} | {figures} | {'yes' if fine else 'NO'} |")
    share = stats.median(r.reported for r in runs if r.case == CASES[0].name) / LIMIT
    lines += [
        "",
        f"Power case: {share:.0%} of the limit {LIMIT} of the one-run method (at least {SHARE:.0%} is asked).",
    ]
    return "\n".join(lines) + "\n", good


def digits() -> Rows:
    """scikit-learn's digits, (64,) in [0, 1]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    features = (bunch.data / 16).astype(np.float32)
    ids = tuple(map(str, range(len(features))))
    return Rows(features, bunch.target.astype(np.int64), ids, 10, "digits")
