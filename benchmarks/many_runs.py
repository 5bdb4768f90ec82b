"""Black-box audits of DP-SGD's final model, thousands of them: `python -m leakgauge.benchmarks.many_runs`.

One mislabelled canary, in each model or not by its own coin; the score is the final model's log-probability of the
wrong label. Models train stacked in one process. The same audit from average and from worst-case initial parameters
(Annamalai and De Cristofaro 2024, arXiv 2405.14106), and on the unprotected twin. About two minutes on one core.
"""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ..audit.bounds import ClopperPearson, ConfusionCounts, Gdp, PairedOutputs, Sequential
from ..audit.design import HOLDOUT, RunTrials, coin_flips
from ..audit.seeds import Seeds
from ..audit.types import Bound, Claim, Job, Rows, Selection, Trained
from ..audit.verdict import Circumstances, Judgement, judge
from ..trainers.dpsgd import DpSgd
from ..trainers.sgd import Sgd
from ..trainers.whitebox import saturate

if TYPE_CHECKING:
    from torch import nn

RUNS, CALIBRATION, ROWS, STEPS, NOISE = 4000, 400, 100, 50, 50**0.5
LEARNING_RATE, DELTA = 4.0, 1e-5
CONFIDENCE, VIOLATION_CONFIDENCE = 0.95, 0.999
LOOKS = (250, 500, 1000, 1500)
"""Pairs after which the growing audit is looked at."""
PLACE = "leakgauge.benchmarks.many_runs"
WORST, AVERAGE, TWIN = "worst-case initial parameters", "random initial parameters", "unprotected twin, worst case"


@dataclass(frozen=True, slots=True)
class ManyRuns:
    """One audit. `counts` at `threshold`, chosen for Clopper-Pearson; `gdp_counts` at a threshold of its own, which
    never decides here. `growing` are anytime bounds at `LOOKS` pairs."""

    case: str
    claim: Claim
    threshold: float
    counts: ConfusionCounts
    gdp_counts: ConfusionCounts
    reported: Bound
    judged: Bound
    gdp: Bound
    gdp_judged: Bound
    growing: tuple[tuple[int, Bound], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        bounds = {k: getattr(self, k).to_json() for k in ("reported", "judged", "gdp", "gdp_judged")}
        growing = [{"pairs": pairs, **bound.to_json()} for pairs, bound in self.growing]
        claim = self.claim.epsilon_at(DELTA)
        return {"case": self.case, "claim": claim, "threshold": self.threshold, **bounds, "growing": growing}


def run(out: Path) -> int:
    """Run the three audits, print a table, write it to `out` (a folder gets `many-runs.md` and `.json`).

    Returns 0 when the worst case certifies at least twice the average one, neither is above the claim at confidence
    0.999, and the twin is; else 1.
    """
    chosen = trainers()
    claim = chosen[WORST].planned_claim(ROWS)
    audits = {case: audit(case, trainer, claim, seeds=Seeds(2405)) for case, trainer in chosen.items()}
    worst, average, twin = (audits[case] for case in (WORST, AVERAGE, TWIN))
    text = report(list(audits.values()), verdict_on(worst, twin))
    path = out / "many-runs.md" if not out.suffix else out
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.with_suffix(".json").write_text(
        json.dumps([a.to_json() for a in audits.values()], indent=1) + "\n", encoding="utf-8"
    )
    print(text, end="")
    promised = worst.claim.epsilon_at(DELTA)
    sound = max(worst.judged.epsilon, average.judged.epsilon, worst.gdp_judged.epsilon) <= promised
    strong = worst.reported.epsilon >= 2 * average.reported.epsilon and twin.judged.epsilon > promised
    return 0 if sound and strong else 1


def trainers(noise: float = NOISE) -> dict[str, Any]:
    """Full-batch DP-SGD on a linear model, by where it starts, and its twin without protection."""
    common: dict[str, Any] = {
        "noise_multiplier": noise,
        "batch_size": ROWS,
        "nominal_rows": ROWS,
        "epochs": STEPS,
        "learning_rate": LEARNING_RATE,
        "delta": DELTA,
    }
    worst, average = DpSgd(model=f"{PLACE}:worst_case", **common), DpSgd(model="logistic", **common)
    return {WORST: worst, AVERAGE: average, TWIN: worst.unprotected()}


def audit(
    case: str, trainer: DpSgd | Sgd, claim: Claim, *, seeds: Seeds, runs: int = RUNS, calibration: int = CALIBRATION
) -> ManyRuns:
    """`runs` models with a coin each, judged at a threshold chosen on `calibration` further models with known coins."""
    first = collect(trainer, calibration, seeds=seeds.at(case, "calibration"))
    trials = collect(trainer, runs, seeds=seeds.at(case, "runs"))
    cp, gdp = ClopperPearson(), Gdp()
    threshold = choose_threshold(first, runs // 2, cp)
    counts = trials.count(threshold)
    central = trials.count(choose_threshold(first, runs // 2, gdp))
    return ManyRuns(
        case,
        claim,
        threshold,
        counts,
        central,
        cp.certify(counts, delta=DELTA, confidence=CONFIDENCE, selection=HOLDOUT),
        cp.certify(counts, delta=DELTA, confidence=VIOLATION_CONFIDENCE, selection=HOLDOUT),
        gdp.certify(central, delta=DELTA, confidence=CONFIDENCE, selection=HOLDOUT),
        gdp.certify(central, delta=DELTA, confidence=VIOLATION_CONFIDENCE, selection=HOLDOUT),
        tuple(growing(trials, threshold)),
    )


def collect(trainer: DpSgd | Sgd, runs: int, *, seeds: Seeds) -> RunTrials:
    """Train `runs` models in one program, the canary in each by its own fair coin; one score a model."""
    data, canary = rows_and_canary()
    both = Rows(
        np.concatenate([data.features, canary.features]),
        np.concatenate([data.labels, canary.labels]),
        data.records + canary.records,
        data.classes,
    )
    inside = coin_flips(canary.records, runs, seeds=seeds.at("coins")).inside[:, 0]
    others = np.ones(len(data), dtype=bool)
    jobs = [Job(np.append(others, there), seeds.at("model", i)) for i, there in enumerate(inside)]
    scores = np.empty(runs)
    for start in range(0, runs, 1000):
        for offset, trained in enumerate(trainer.fit_many(both, jobs[start : start + 1000], device="cpu")):
            scores[start + offset] = score(trained, canary)
    return RunTrials(scores, inside)


def score(trained: Trained, canary: Rows) -> float:
    """Log-probability of the canary's wrong label, higher for more likely inside."""
    return float(trained.target.log_probabilities(canary.features)[0, canary.labels[0]])


def choose_threshold(trials: RunTrials, per_side: int, method: ClopperPearson | Gdp) -> float:
    """Where `method` would certify most on `per_side` runs a side, if both sides were normal with the calibration's
    means and standard deviations. A poor fit costs power and nothing else: the bound is taken on other runs."""
    inside, outside = trials.scores[trials.inside], trials.scores[~trials.inside]
    low, high = float(trials.scores.min()), float(trials.scores.max())
    grid = np.linspace(low, high, 401)
    tpr, fpr = (ndtr((side.mean() - grid) / max(float(side.std()), 1e-9)) for side in (inside, outside))
    expected = [
        method.epsilon_lower(
            ConfusionCounts(round(t * per_side), round(f * per_side), per_side, per_side), delta=DELTA, alpha=0.05
        )
        for t, f in zip(tpr, fpr, strict=True)
    ]
    best = np.flatnonzero(np.array(expected) == max(expected))
    return float(grid[best[len(best) // 2]])


def growing(trials: RunTrials, threshold: float) -> list[tuple[int, Bound]]:
    """Anytime bounds as models arrive: the k-th with the canary is paired with the k-th without."""
    guessed = (trials.scores >= threshold).astype(float)
    inside, outside = guessed[trials.inside], guessed[~trials.inside]
    bounds = []
    for pairs in LOOKS:
        if pairs <= min(len(inside), len(outside)):
            outputs = PairedOutputs(tuple(inside[:pairs]), tuple(outside[:pairs]))
            bound = Sequential().certify(outputs, delta=DELTA, confidence=CONFIDENCE, selection=Selection("anytime"))
            bounds.append((pairs, bound))
    return bounds


def verdict_on(audited: ManyRuns, twin: ManyRuns) -> Judgement:
    """By the rules of evidence: Clopper-Pearson at 0.999, with the twin as the positive control."""
    return judge(audited.claim, audited.judged, Circumstances(twin_epsilon=twin.judged.epsilon))


def report(audits: list[ManyRuns], judgement: Judgement) -> str:
    """A table, the growing audit, and the verdict."""
    claim = audits[0].claim.epsilon_at(DELTA)
    looks = [pairs for pairs, _ in audits[0].growing]
    lines = [
        f"Full-batch DP-SGD, linear model, {ROWS} digits, sigma {NOISE:.3f}, T {STEPS}, learning rate "
        f"{LEARNING_RATE:g}; {RUNS} models a case, one canary, black-box final model, delta {DELTA:g}. "
        f"Claim: {claim:.3f}. Threshold chosen on {CALIBRATION} further models.",
        "",
        "| case | TP / members, FP / non-members | clopper-pearson 0.95 | at 0.999 | ceiling at 0.999 | gdp 0.95 "
        "| at 0.999 | " + " | ".join(f"sequential, {pairs} pairs" for pairs in looks) + " |",
        "|---|---|---:|---:|---:|---:|---:|" + "---:|" * len(looks),
    ]
    for a in audits:
        c = a.counts
        seen = " | ".join(f"{bound.epsilon:.3f}" for _, bound in a.growing)
        lines.append(
            f"| {a.case} | {c.true_positives} / {c.members}, {c.false_positives} / {c.nonmembers} "
            f"| {a.reported.epsilon:.3f} | {a.judged.epsilon:.3f} | {a.judged.ceiling:.3f} | {a.gdp.epsilon:.3f} "
            f"| {a.gdp_judged.epsilon:.3f} | {seen} |"
        )
    return "\n".join([*lines, "", f"Verdict on the worst case: {judgement.verdict}.", ""])


@lru_cache(maxsize=1)
def rows_and_canary() -> tuple[Rows, Rows]:
    """The private rows, always in, and the canary: a digit with the next digit's label."""
    images, labels = _digits()
    data = Rows(images[:ROWS], labels[:ROWS], tuple(map(str, range(ROWS))), 10, "digits")
    return data, Rows(images[300:301], (labels[300:301] + 1) % 10, ("canary",), 10, "canary")


def worst_case(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A linear model fitted to other digits and made sure of itself; named in the trainer as `module:attr`."""
    return copy.deepcopy(_pretrained(shape, classes))


@lru_cache(maxsize=4)
def _pretrained(shape: tuple[int, ...], classes: int) -> nn.Module:
    from torch import nn

    linear = nn.Linear(int(np.prod(shape)), classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    images, labels = _digits()
    public = Rows(images[600:], labels[600:], tuple(map(str, range(600, len(labels)))), 10, "public digits")
    return saturate(nn.Sequential(nn.Flatten(), linear), public)


def _digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return (bunch.images[:, None] / 16).astype(np.float32), bunch.target.astype(np.int64)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/many-runs")))
