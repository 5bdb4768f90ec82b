"""The doctor's findings as a page: a table of scenes, the probes, and a short reproduction of each finding."""

from __future__ import annotations

import math
import platform
from typing import TYPE_CHECKING

from ...audit.aggregation import SceneAudit
from ...audit.bounds.gaussian import gaussian_epsilon
from ...audit.checks.record import CheckResult
from .reproductions import REPRODUCTIONS
from .subjects import CLIENTS, CLIP, DELTA, DIMENSION, NOISE

if TYPE_CHECKING:
    from .examine import Outcome
    from .suite import Results


def markdown(results: Results) -> str:
    """The whole page."""
    lines = [
        f"{CLIENTS} clients, clip {CLIP:g}, {DIMENSION} coordinates, one release, claimed noise multiplier {NOISE:g} "
        f"unless the name says otherwise, delta {DELTA:g}. Each scene aggregates two cohorts that differ by one "
        "crafted client; half of the runs choose a threshold, half are counted. clopper-pearson refutes the guarantee, "
        "gdp the claimed Gaussian mechanism, both at 0.999, each with half of alpha. "
        f"Python {platform.python_version()}.",
        "",
        "| package | aggregation | scene | runs a side | claimed z | effective z (95 %) | claimed epsilon "
        "| clopper-pearson | gdp | verdict | refutes |",
        "|---|---|---|---:|---:|---|---:|---:|---:|---|---|",
    ]
    lines += [_row(o, a) for o in results.outcomes for a in o.audits]
    lines += [
        "",
        "Scenes: `equal` clients alike; `heavy` one with 100 times the others' examples; `huge` one update of",
    ]
    lines += ["norm 1e6 clips; `loud` all updates far above the clip; `opposed` all others pulling the other way;"]
    lines += ["`alone` one client's own noisy message, replaced by the opposite one.", ""]
    lines += ["## Probes", "", "| aggregation | rule | passed | seen |", "|---|---|---|---|"]
    lines += [_probe(title, r) for title, results_ in results.probes.items() for r in results_]
    lines += _accountants(results)
    lines += ["", "## Not tested", "", *(f"* {name}: {why}." for name, why in results.left_out.items()), ""]
    if any(o.subject.package.startswith("flwr") for o in results.outcomes):
        lines += ["## Reproductions", "", *(part for r in REPRODUCTIONS for part in r.lines())]
    said = "as expected" if results.as_expected else "NOT as expected: a known defect was missed or a control flagged"
    return "\n".join([*lines, f"Outcome: {said}.", ""])


def _row(outcome: Outcome, audit: SceneAudit) -> str:
    subject, noise = outcome.subject, audit.noise
    name = f"{subject.name} (control)" if subject.control else subject.name
    name += f" ({subject.note})" if subject.note else ""
    claimed = f"{audit.claimed.noise_multiplier:.3g} | "
    if noise is None or audit.judged is None or audit.family is None:
        measured = f"- | {audit.claimed.claim.epsilon:.4g} | - | -"
    else:
        interval = f"{noise.value:.3f} ({noise.low:.3f} to {_finite(noise.high)})"
        certified = f"{audit.judged.epsilon:.2f} | {audit.family.epsilon:.2f}"
        measured = f"{interval} | {audit.claimed.claim.epsilon:.4g} | {certified}"
    refutes = audit.judgement.refutes or audit.error or audit.judgement.reason or ""
    return (
        f"| {subject.package} | {name} | {audit.scene} | {audit.runs} | {claimed}{measured} "
        f"| {audit.verdict} | {refutes} |"
    )


def _accountants(results: Results) -> list[str]:
    """What each accountant says of one release against the exact figure; above it is loose, and safe."""
    exact = gaussian_epsilon(1 / NOISE, DELTA)
    claims = [o.subject.claimed.claim for o in results.outcomes if o.subject.claimed.noise_multiplier == NOISE]
    said = sorted({(c.accountant, f"{c.epsilon:.4f}") for c in claims})
    rows = [f"| {name} | {epsilon} | {exact:.4f} |" for name, epsilon in said]
    head = ["| accountant | one release at noise multiplier 1 | exact |", "|---|---:|---:|"]
    return ["", "## Accountants", "", *head, *rows]


def _probe(title: str, result: CheckResult) -> str:
    passed = {True: "yes", False: "**no**", None: "-"}[result.passed]
    return f"| {title} | {result.rule} | {passed} | {result.detail.replace('|', '/')} |"


def _finite(value: float) -> str:
    return "infinity" if math.isinf(value) else f"{value:.3f}"
