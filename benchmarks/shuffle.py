"""Shuffled batches accounted as Poisson samples: `python -m leakgauge.benchmarks.shuffle`.

Most DP-SGD code shuffles and cuts the data into batches, and reports the epsilon of Poisson sampling. At noise 0.5 and
10,000 steps that says 1.953 (delta 1e-6) where the truth is near 11 (Chua et al. 2024, arXiv 2403.17673). The audit
trains nothing: it runs the mechanism itself on the worst case, gradients on a line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..audit.accounting import dp_sgd_claim
from ..audit.bounds import ClopperPearson, ConfusionCounts
from ..audit.design import RunTrials
from ..audit.seeds import Seeds
from ..audit.types import Adjacency, Claim

NOISE, STEPS, DELTA = 0.5, 10_000, 1e-6
REPEATS, NEEDED = 100, 95
CELLS = 1 << 21
"""Noise draws held at a time."""
Sampler = Literal["shuffle", "poisson"]


@dataclass(frozen=True, slots=True)
class Design:
    """Runs on each side, confidence, and the threshold on the largest step, fixed by theory for this many runs."""

    runs: int
    confidence: float
    threshold: float


DESIGNS = (Design(1000, 0.95, 2.65), Design(2000, 0.999, 2.55))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How often, of `repeats` audits, one certified more than the claim; and the bounds' spread."""

    sampler: Sampler
    design: Design
    repeats: int
    above: int
    median: float
    lowest: float
    highest: float


def run(out: Path) -> int:
    """All designs on both samplers; prints a table and writes it to `out` (a folder gets `shuffle.md` and `.json`).

    Returns 1 when the shuffled mechanism violates its claim, which is what it does; 4 when the audit is worse than it
    must be: fewer than 95 of 100 repeats see it, or the Poisson sampler is flagged at 0.999.
    """
    outcomes = [outcome(sampler, design) for design in DESIGNS for sampler in ("shuffle", "poisson")]
    text = report(outcomes)
    path = out / "shuffle.md" if not out.suffix else out
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps([asdict(o) for o in outcomes], indent=1) + "\n", encoding="utf-8")
    print(text, end="")
    return 1 if all(as_it_must(o) for o in outcomes) else 4


def outcome(sampler: Sampler, design: Design, *, repeats: int = REPEATS, steps: int = STEPS) -> Outcome:
    """`repeats` whole audits."""
    claimed = poisson_claim(steps=steps).epsilon_at(DELTA)
    bounds = []
    for repeat in range(repeats):
        counts = audit(sampler, design, seeds=Seeds(2024).at(sampler, design.runs, repeat), steps=steps)
        bounds.append(ClopperPearson().certify(counts, delta=DELTA, confidence=design.confidence).epsilon)
    above = sum(b > claimed for b in bounds)
    return Outcome(sampler, design, repeats, above, float(np.median(bounds)), min(bounds), max(bounds))


def audit(sampler: Sampler, design: Design, *, seeds: Seeds, steps: int = STEPS) -> ConfusionCounts:
    """One audit: runs with the record and without, guessed by whether the largest step reaches the threshold."""
    scores = [largest_steps(sampler, there, design.runs, seeds=seeds.at(there), steps=steps) for there in (True, False)]
    inside = np.repeat([True, False], design.runs)
    return RunTrials(np.concatenate(scores).astype(np.float64), inside, adjacency=Adjacency.ZERO_OUT).count(
        design.threshold
    )


def largest_steps(
    sampler: Sampler, inside: bool, runs: int, *, seeds: Seeds, noise: float = NOISE, steps: int = STEPS
) -> NDArray[np.float32]:
    """The largest of all released sums of each of `runs` runs of one epoch, in units of the clipping norm, (runs,).

    The record's gradient is +1, or 0 where it is zeroed out; a release is the sum over the step's batch plus noise.
    `shuffle`: all other gradients are -1 and every batch has b rows, so releases are shifted by the constant b: 0 for
    batches without the record, 1 with the zeroed record, 2 with the record. `poisson`: the adversary knows the other
    rows' share and takes it off, the worst case for that sampler: each step has the record with probability 1 / steps.
    """
    generator = seeds.generator()
    largest = []
    for part in _parts(runs, steps):
        releases = generator.standard_normal((part, steps), dtype=np.float32)
        releases *= np.float32(noise)
        if sampler == "shuffle":
            releases[np.arange(part), generator.integers(steps, size=part)] += 2 if inside else 1
        elif inside:
            rows = np.repeat(np.arange(part), generator.binomial(steps, 1 / steps, size=part))
            # The law of the largest release depends on how many steps have the record, not on which.
            places = np.arange(len(rows)) - np.searchsorted(rows, rows)
            releases[rows, places] += 1
        largest.append(releases.max(axis=1))
    return np.concatenate(largest)


@lru_cache(maxsize=8)
def poisson_claim(*, noise: float = NOISE, steps: int = STEPS, delta: float = DELTA) -> Claim:
    """What an accountant says that takes the shuffle for Poisson sampling at rate 1 / steps; zero-out, as the game."""
    return dp_sgd_claim(
        noise_multiplier=noise, sample_rate=1 / steps, steps=steps, delta=delta, adjacency=Adjacency.ZERO_OUT
    )


def as_it_must(seen: Outcome) -> bool:
    """The shuffle is seen in at least 95 % of repeats; Poisson is never flagged at 0.999."""
    if seen.sampler == "shuffle":
        return seen.above * 100 >= NEEDED * seen.repeats
    return seen.above == 0 or seen.design.confidence < 0.999


def report(outcomes: list[Outcome]) -> str:
    """A table of detection rates."""
    claimed = poisson_claim().epsilon_at(DELTA)
    lines = [
        f"Sigma {NOISE:g}, {STEPS} steps of one epoch, delta {DELTA:g}, zero-out; score: largest step; "
        f"clopper-pearson. Claim of the Poisson accountant: {claimed:.4f}.",
        "",
        "| sampler | runs a side | confidence | threshold | certified above the claim | median | lowest | highest "
        "| ceiling |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for o in outcomes:
        perfect = ConfusionCounts(o.design.runs, 0, o.design.runs, o.design.runs)
        ceiling = ClopperPearson().certify(perfect, delta=DELTA, confidence=o.design.confidence).epsilon
        name = "shuffle" if o.sampler == "shuffle" else "Poisson (control)"
        lines.append(
            f"| {name} | {o.design.runs} | {o.design.confidence:g} | {o.design.threshold:g} "
            f"| {o.above} of {o.repeats} | {o.median:.3f} | {o.lowest:.3f} | {o.highest:.3f} | {ceiling:.3f} |"
        )
    return "\n".join([*lines, ""])


def _parts(runs: int, steps: int) -> Iterator[int]:
    size = max(1, CELLS // steps)
    for start in range(0, runs, size):
        yield min(size, runs - start)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/shuffle")))
