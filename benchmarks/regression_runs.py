"""Real runs for the regression benchmark: small audits of two trainers, and white-box runs of DP-SGD."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from ..attacks.canary.gradient_finding import gradient_finding
from ..audit.bounds import GuessCounts
from ..audit.config import parse_config
from ..audit.progress import Reporter
from ..audit.run import run_audit
from ..audit.seeds import Seeds
from .regression_laws import run_document
from .whitebox import MANY, MANY_PLAN, audit_run, digits, trainer, trials
from .whitebox_variants import half_noise

SMALL: dict[str, Any] = {
    "audit": {"name": "small", "delta": 1e-6},
    "data": {"name": "digits", "label_noise": 0.2},
    "design": {"audit_records": 600},
    "trainer": [
        {"name": "sgd", "epochs": 8, "hidden": [32]},
        {
            "name": "dp-sgd",
            "epsilon": 3.0,
            "delta": 1e-5,
            "epochs": 4,
            "hidden": [32],
            "batch_size": 32,
            "nominal_rows": 300,
        },
    ],
    "attack": [
        {"name": "lira", "shadows": 8, "guesses": 200, "alpha_share": 0.5},
        {"name": "rmia", "references": 2, "guesses": 200, "alpha_share": 0.5},
    ],
}
"""The smallest audit whose figures are not noise alone: 36 networks, two seconds."""


def small_audits(count: int, seeds: Seeds) -> list[dict[str, Any]]:
    """Whole audits that differ in their seed only."""
    found = []
    for index in range(count):
        audit = {**SMALL["audit"], "seed": seeds.at(index).integer() % 2**31}
        with tempfile.TemporaryDirectory() as folder:
            config = parse_config({**SMALL, "audit": audit})
            quiet = Reporter(quiet=True)
            found.append(run_audit(config, out=Path(folder), device="cpu", reporter=quiet, command="bench regression"))
        print(f"small audit {index + 1} of {count}", file=sys.stderr, flush=True)
    return found


def real_white_box(count: int, seeds: Seeds, *, halved: bool) -> list[dict[str, Any]]:
    """White-box audits of Opacus runs with 5000 gradient canaries; `halved` adds half the noise it claims."""
    found = []
    for index in range(count):
        here = seeds.at(index)
        run = audit_run(digits(), MANY, here, half_noise if halved else None, trainer(MANY.count))
        # The unprotected twin is right in every guess (docs/results/whitebox.md); it decides `consistent` only.
        perfect = GuessCounts(MANY.count, MANY_PLAN.guesses, MANY_PLAN.guesses)
        steps = run.transcript.steps
        finding = gradient_finding(trials(run), run.claim, MANY_PLAN, twin=perfect, steps=steps)
        found.append(run_document([finding], run.claim, here))
        print(f"white-box run {index + 1} of {count}, halved: {halved}", file=sys.stderr, flush=True)
    return found
