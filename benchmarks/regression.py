"""False alarms and detections of `leakgauge compare`: `leakgauge bench regression`.

Real audits of small models and real white-box runs of DP-SGD where they are cheap; the exact law of the white-box game,
and simulated seeds with heavy tails, where many thousand are needed. Each line says which. Four minutes on a quiet
core.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..audit.comparison import LEAST_SEEDS, build_baseline, compare_run
from ..audit.comparison.extract import Document
from ..audit.metrics import clopper_pearson
from ..audit.seeds import Seeds
from .regression_laws import LAWS, false_alarms, white_box_run
from .regression_runs import real_white_box, small_audits

PAIRS, DETECTIONS, NEEDED = 200, 100, 95
CONFIDENCES = (0.95, 0.99)
SMALL_RUNS, WHITE_BOX_RUNS, HALVED_RUNS = 60, 24, 10
TRIALS = 10_000
SURE = 0.999
"""A rate counts as above the stated one where its exact lower limit at this confidence is."""


@dataclass(frozen=True, slots=True)
class Alarms:
    """`failed` of `trials` comparisons of runs that differ only in seed, at one confidence. `binding`: must hold."""

    name: str
    kind: str
    seeds: int
    findings: int
    confidence: float
    failed: int
    trials: int
    binding: bool

    @property
    def holds(self) -> bool:
        """Whether the rate is compatible with the stated one."""
        low, _ = clopper_pearson(self.failed, self.trials, 2 * SURE - 1)
        return float(low) <= 1 - self.confidence


@dataclass(frozen=True, slots=True)
class Detections:
    """`by_figure` and `failed` of `trials` comparisons of a run with half the noise at one confidence."""

    name: str
    kind: str
    seeds: int
    confidence: float
    by_figure: int
    failed: int
    trials: int

    @property
    def holds(self) -> bool:
        """At least 95 of 100, by the figures alone."""
        return self.by_figure * DETECTIONS >= NEEDED * self.trials


def run(out: Path) -> int:
    """Everything; prints the tables and writes them to `out` (a folder gets `regression.md` and `.json`).

    Returns 0 when no binding rate of false alarms is above the stated one and halved noise is found in at least 95 of
    100 comparisons; else 4.
    """
    seeds = Seeds(20261121).at("regression")
    alarms, detections = white_box_lines(seeds.at("law"), white_box_run, "exact law")
    alarms += small_lines(seeds.at("small"))
    found = real_lines(seeds.at("white-box"))
    alarms, detections = alarms + found[0], detections + found[1]
    alarms += law_lines(seeds.at("laws"))
    text = report(alarms, detections)
    path = out / "regression.md" if not out.suffix else out
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    rows = {"false_alarms": [asdict(a) for a in alarms], "detections": [asdict(d) for d in detections]}
    path.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(text, end="")
    good = all(d.holds for d in detections) and all(a.holds for a in alarms if a.binding)
    return 0 if good else 4


def white_box_lines(
    seeds: Seeds, make: Callable[[Seeds, bool], Document], kind: str
) -> tuple[list[Alarms], list[Detections]]:
    """Every comparison with its own five fresh baseline runs and one fresh run: independent trials."""
    alarms, detections = [], []
    same = [_fresh(make, seeds.at("same", i), halved=False) for i in range(PAIRS)]
    halved = [_fresh(make, seeds.at("halved", i), halved=True) for i in range(DETECTIONS)]
    for confidence in CONFIDENCES:
        failed = sum(fails(*pair, confidence)[1] for pair in same)
        name = "white-box, 5000 canaries, 500 guesses, delta 1e-6"
        alarms.append(Alarms(name, kind, LEAST_SEEDS, 1, confidence, failed, PAIRS, True))
        outcomes = [fails(*pair, confidence) for pair in halved]
        detections.append(_detections(f"{name}: half the noise", kind, confidence, outcomes))
    return alarms, detections


def small_lines(seeds: Seeds) -> list[Alarms]:
    """Real audits of small networks, four findings each; comparisons drawn from one pool of runs."""
    pool = small_audits(SMALL_RUNS, seeds.at("runs"))
    name = "sgd and dp-sgd on digits, lira and rmia"
    return _from_pool(name, "real audits", pool, (LEAST_SEEDS, 10), 4, seeds)


def real_lines(seeds: Seeds) -> tuple[list[Alarms], list[Detections]]:
    """Real white-box runs: comparisons within the pool, and every run with half the noise against baselines from it."""
    pool = real_white_box(WHITE_BOX_RUNS, seeds.at("correct"), halved=False)
    halved = real_white_box(HALVED_RUNS, seeds.at("halved"), halved=True)
    name = "white-box, 5000 canaries, 500 guesses, delta 1e-6"
    alarms = _from_pool(name, "real training", pool, (LEAST_SEEDS,), 1, seeds)
    detections = []
    for confidence in CONFIDENCES:
        outcomes = []
        for draw in range(DETECTIONS):
            chosen = seeds.at("against", draw).generator().permutation(len(pool))[:LEAST_SEEDS]
            outcomes.append(fails([pool[i] for i in chosen], halved[draw % len(halved)], confidence))
        detections.append(_detections(f"{name}: half the noise", "real training", confidence, outcomes))
    return alarms, detections


def law_lines(seeds: Seeds) -> list[Alarms]:
    """Simulated seeds: normal, where the rate is exact, and others, where it is measured and not promised."""
    return [
        Alarms(law, "simulated", k, findings, confidence, failed, TRIALS, LAWS[law].promised)
        for law in LAWS
        for k in (LEAST_SEEDS, 10)
        for findings in (1, 8)
        for confidence, failed in false_alarms(
            law, k, findings, CONFIDENCES, TRIALS, seeds=seeds.at(law, k, findings)
        ).items()
    ]


def fails(baseline: Sequence[Document], audit: Document, confidence: float) -> tuple[bool, bool]:
    """Whether a figure regressed, and whether the comparison failed for any reason."""
    found = compare_run(build_baseline(baseline), audit, confidence=confidence)
    figures = [r.measured for r in found.rows if r.measured is not None]
    return any(m.above for m in figures), found.exit_code == 1


def report(alarms: Sequence[Alarms], detections: Sequence[Detections]) -> str:
    """Both tables and the requirements."""
    lines = [
        "False alarms: a run of the same code, another seed.",
        "",
        "| what | figures are | seeds | findings | comparisons "
        + "".join(f"| failed at {1 - c:.2g} " for c in CONFIDENCES)
        + "|",
        "|---|---|---:|---:|---:" + "|---:" * len(CONFIDENCES) + "|",
        *_alarm_rows(alarms),
        "",
        "Detections: the same claim, half the noise.",
        "",
        "| what | figures are | seeds | stated rate | found by the figure | failed for any reason |",
        "|---|---|---:|---:|---:|---:|",
        *(
            f"| {d.name} | {d.kind} | {d.seeds} | {1 - d.confidence:.2g} | {d.by_figure} of {d.trials} "
            f"| {d.failed} of {d.trials} |"
            for d in detections
        ),
        "",
    ]
    bad = [a for a in alarms if a.binding and not a.holds]
    lines += [
        f"* {'NO' if bad else 'yes'}: no false-alarm rate above the stated one (normal and binomial laws, exact "
        "white-box law, real runs)",
        f"* {'yes' if all(d.holds for d in detections) else 'NO'}: half the noise found by the figure in at least "
        f"{NEEDED} of {DETECTIONS}",
    ]
    return "\n".join(lines) + "\n"


def _alarm_rows(alarms: Sequence[Alarms]) -> list[str]:
    rows: dict[str, str] = {}
    for a in alarms:
        start = f"| {a.name} | {a.kind} | {a.seeds} | {a.findings} | {a.trials} "
        share = f" ({a.failed / a.trials:.1%})" if a.trials else ""
        rows[start] = rows.get(start, "") + f"| {a.failed}{share} "
    return [f"{start}{cells}|" for start, cells in rows.items()]


def _fresh(make: Callable[[Seeds, bool], Document], seeds: Seeds, *, halved: bool) -> tuple[list[Document], Document]:
    return [make(seeds.at("baseline", i), False) for i in range(LEAST_SEEDS)], make(seeds.at("run"), halved)


def _detections(name: str, kind: str, confidence: float, outcomes: Sequence[tuple[bool, bool]]) -> Detections:
    by_figure, failed = (sum(o[i] for o in outcomes) for i in (0, 1))
    return Detections(name, kind, LEAST_SEEDS, confidence, by_figure, failed, len(outcomes))


def _from_pool(
    name: str, kind: str, pool: Sequence[Document], sizes: Sequence[int], findings: int, seeds: Seeds
) -> list[Alarms]:
    lines = []
    for k in sizes:
        for confidence in CONFIDENCES:
            failed = 0
            for draw in range(PAIRS):
                chosen = seeds.at("pairs", k, draw).generator().permutation(len(pool))[: k + 1]
                failed += fails([pool[i] for i in chosen[1:]], pool[chosen[0]], confidence)[1]
            lines.append(Alarms(name, kind, k, findings, confidence, failed, PAIRS, True))
    return lines


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/regression")))
