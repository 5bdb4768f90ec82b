"""Seconds and peak memory of scoring at scale, from stored float32 answers: `leakgauge bench scoring`.

RMIA with 60,000 records, 10,000 population records and 8 references, held against the dense definition on every pair;
LiRA with 60,000 records and 32 and 256 shadows of 10 classes. Each case runs in a process of its own on answers that
another process has written, so that its peak memory is that of loading Python, numpy and scipy, and of scoring.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..attacks.membership import Lira, Rmia
from ..audit.answers import Stack, read
from ..audit.seeds import Seeds
from ..audit.types import Attack, Evidence

CHUNK = 1 << 21
"""Pairs of a record and a population record that the dense oracle holds at a time."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is scored, and the most it may take: seconds and megabytes of peak memory, both over everything."""

    attack: str
    records: int = 60_000
    population: int = 10_000
    shadows: int = 8
    classes: int = 10
    seconds: float | None = None
    megabytes: float | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a case took. `error` is the largest difference of a score from the dense definition, where there is one;
    `idle` is the process's peak memory before scoring, in megabytes like `peak`."""

    case: Case
    seconds: float
    cpu_seconds: float
    idle: float
    peak: float
    error: float | None = None

    @property
    def within(self) -> bool:
        """Whether the case kept to its limits, the error to 1e-12."""
        case = self.case
        return (
            (case.seconds is None or self.seconds <= case.seconds)
            and (case.megabytes is None or self.peak <= case.megabytes)
            and (self.error is None or self.error <= 1e-12)
        )


CASES = (
    Case("rmia", seconds=5.0, megabytes=1000.0),
    Case("rmia-offline"),
    Case("rmia-tuned"),
    Case("rmia", shadows=64),
    Case("lira", population=0, shadows=32),
    Case("lira", population=0, shadows=256, seconds=10.0),
)


def run(out: Path) -> int:
    """Measure every case, print a table and write it with the figures to `out` (scoring.md, scoring.json).

    Returns 0, or 1 when a case was over its limits or off the dense definition.
    """
    out.mkdir(parents=True, exist_ok=True)
    costs = [measured(case) for case in CASES]
    table = markdown(costs)
    (out / "scoring.md").write_text(table, encoding="utf-8")
    rows = [{**asdict(cost), "within": cost.within} for cost in costs]
    (out / "scoring.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(table, end="")
    return 0 if all(cost.within for cost in costs) else 1


def measured(case: Case) -> Cost:
    """Write the answers, score them in another process, and hold them against the definition in a third."""
    with tempfile.TemporaryDirectory(prefix="leakgauge-scoring-") as folder:
        _in_a_process("write", folder, case)
        found = _in_a_process("score", folder, case)
        error = _in_a_process("compare", folder, case)["error"] if case.attack.startswith("rmia") else None
    return Cost(case, error=error, **found)


def write_answers(folder: Path, case: Case) -> None:
    """Stored answers of a target and its shadows: float32 log-probabilities, records first, then population. Members
    are fitted better; model 0 is the target; shadows are complementary pairs."""
    seeds = Seeds(17).at("scoring")
    generator = seeds.generator()
    rows = case.records + case.population
    labels = generator.integers(0, case.classes, rows)
    inside = np.zeros((1 + case.shadows, case.records), np.bool_)
    inside[0] = generator.random(case.records) < 0.5
    for pair in range(1, 1 + case.shadows, 2):
        inside[pair] = generator.random(case.records) < 0.5
        inside[pair + 1 : pair + 2] = ~inside[pair]
    difficulty = 2 * generator.standard_normal(rows, dtype=np.float32)
    for model in range(1 + case.shadows):
        logits = seeds.at(model).generator().standard_normal((rows, case.classes), dtype=np.float32)
        logits[np.arange(rows), labels] += 2 + difficulty
        logits[np.arange(case.records), labels[: case.records]] += 1.5 * inside[model]
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        np.save(folder / f"{model}.npy", logits)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "inside.npy", inside)


def evidence_of(folder: Path, case: Case) -> Evidence:
    """The stored answers as the runner hands them to an attack."""
    labels, inside = np.load(folder / "labels.npy"), np.load(folder / "inside.npy")
    target = read(folder / "0.npy")
    shadows: Any = Stack(tuple(folder / f"{model}.npy" for model in range(1, 1 + case.shadows)))
    cut = case.records
    return Evidence(
        labels=labels[:cut],
        records=tuple(map(str, range(cut))),
        target=target[:cut],
        shadows=shadows[:, :cut],
        shadow_inside=inside[1:],
        population_labels=labels[cut:],
        population_target=target[cut:],
        population_shadows=shadows[:, cut:],
    )


def attack_of(case: Case) -> Attack:
    """The attack of a case."""
    if case.attack == "lira":
        return Lira(shadows=case.shadows)
    return {
        "rmia": Rmia(references=case.shadows),
        "rmia-offline": Rmia(references=case.shadows, mode="offline", offline_scaling=0.5, gamma=2.0),
        "rmia-tuned": Rmia(references=case.shadows, mode="offline", offline_scaling="tuned"),
    }[case.attack]


def score_answers(folder: Path, case: Case) -> dict[str, float]:
    """Seconds, processor seconds and peak memory of one scoring; scores go to `scores.npy`."""
    idle = peak_megabytes()
    started, processor = time.perf_counter(), time.process_time()
    scores = attack_of(case).score(evidence_of(folder, case), seeds=Seeds(17).at("attack"))
    cost = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - processor}
    peak = peak_megabytes()
    np.save(folder / "scores.npy", scores.values)
    return {**cost, "idle": idle, "peak": peak}


def compare_with_definition(folder: Path, case: Case) -> dict[str, float]:
    """The largest difference between RMIA's scores and their definition on all pairs of records.

    `Rmia.score` is (count + u) / (population + 1) with u in (0, 1), so its whole part is the count of the definition.
    """
    attack, evidence = attack_of(case), evidence_of(folder, case)
    assert isinstance(attack, Rmia)
    dense = dense_rmia(evidence, attack)
    whole = np.floor(np.load(folder / "scores.npy") * (case.population + 1)) / case.population
    return {"error": float(max(np.abs(attack.exact(evidence) - dense).max(), np.abs(whole - dense).max()))}


def dense_rmia(evidence: Evidence, attack: Rmia) -> NDArray[np.float64]:
    """Definition 2 of Zarifzadeh, Liu and Shokri (2024, arXiv 2312.03262), written down once more on all pairs: the
    fraction of population records z with (p(x | target) / p(x)) / (p(z | target) / p(z)) >= gamma."""
    scaling = attack.offline_scaling
    if isinstance(scaling, str):
        from ..attacks.membership.rmia import tuned_scaling

        everyone = np.stack([_probability(model, evidence.labels) for model in evidence.shadows])
        scaling = tuned_scaling(everyone, evidence.shadow_inside)
    into, out, times_in = (np.zeros(len(evidence.labels)) for _ in range(3))
    for inside, model in zip(evidence.shadow_inside, evidence.shadows, strict=True):
        probability = _probability(model, evidence.labels)
        into += np.where(inside, probability, 0)
        out += np.where(inside, 0, probability)
        times_in += inside
    half = len(evidence.shadows) / 2
    assert (times_in == half).all(), "the definition is written for complementary pairs"
    offline = ((1 + scaling) * out / half + 1 - scaling) / 2
    usual = (into / half + out / half) / 2 if attack.mode == "online" else offline
    ratio = _probability(evidence.target, evidence.labels) / usual
    population = evidence.population_labels
    average = sum(_probability(model, population) for model in evidence.population_shadows) / len(evidence.shadows)
    others = _probability(evidence.population_target, population) / (((1 + scaling) * average + 1 - scaling) / 2)
    share, step = np.empty(len(ratio)), max(1, CHUNK // len(others))
    for start in range(0, len(ratio), step):
        part = slice(start, start + step)
        share[part] = (ratio[part, None] / others >= attack.gamma).mean(axis=1)
    return share


def _probability(model: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.exp(np.asarray(model, np.float64)[np.arange(len(labels)), labels])


def peak_megabytes() -> float:
    """The most memory this process ever held, in 10^6 bytes: mapped pages that it touched included."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: what that tells of a fresh process starts at its parent's peak.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def markdown(costs: Sequence[Cost]) -> str:
    """A table of the costs and limits."""
    lines = [
        f"numpy {np.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores, one thread. Memory is "
        "peak resident memory, in brackets that of the process before scoring (Python, numpy, scipy).",
        "",
        "| attack | records | population | models | classes | seconds | processor s | MB | limits | off definition |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|---:|",
    ]
    for cost in costs:
        case = cost.case
        limits = [f"{case.seconds:g} s"] if case.seconds else []
        limits += [f"{case.megabytes:g} MB"] if case.megabytes else []
        kept = f"{', '.join(limits)}: {'kept' if cost.within else 'BROKEN'}" if limits else ""
        lines.append(
            f"| {case.attack} | {case.records} | {case.population} | {case.shadows} | {case.classes} "
            f"| {cost.seconds:.2f} | {cost.cpu_seconds:.2f} | {cost.peak:.0f} ({cost.idle:.0f}) | {kept} "
            f"| {'' if cost.error is None else f'{cost.error:.0e}'} |"
        )
    return "\n".join(lines) + "\n"


def _in_a_process(step: str, folder: str, case: Case) -> dict[str, float]:
    code = "from leakgauge.benchmarks.scoring import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, step, folder, json.dumps(asdict(case))],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """One step of one case, in a process of its own; prints what it found as JSON."""
    step, folder, case = sys.argv[1], Path(sys.argv[2]), Case(**json.loads(sys.argv[3]))
    if step == "write":
        write_answers(folder, case)
        print("{}")
    elif step == "score":
        print(json.dumps(score_answers(folder, case)))
    else:
        print(json.dumps(compare_with_definition(folder, case)))
