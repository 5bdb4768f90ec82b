"""Several runs to one baseline."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..claims_json import claim_to_json
from ..errors import ConfigError, IncompatibleError
from ..registry import PARTS, nearest
from ..types import Claim, Verdict
from .baseline import LEAST_SEEDS, Baseline, BaselineFinding, Figures
from .extract import (
    Document,
    Key,
    claims_of,
    figures_of,
    finding_design,
    findings_of,
    run_design,
    specs_of,
)

COMMIT_VARIABLES = ("GITHUB_SHA", "CI_COMMIT_SHA")


def read_run(path: Path) -> dict[str, Any]:
    """A valid `audit.json`, given it or its folder."""
    file = path / "audit.json" if path.is_dir() else path
    audit: dict[str, Any] = PARTS.load("read")(file)
    PARTS.load("validate")(audit)
    return audit


def build_baseline(audits: Sequence[Document], *, statistic: str | None = None, commit: str | None = None) -> Baseline:
    """A baseline of runs that differ in their seed and in nothing else.

    `statistic` decides wherever a finding has it; by default `guesses` for crafted canaries and `auc` for ordinary
    records. `ConfigError` for fewer than 5 runs or equal seeds, `IncompatibleError` for runs of different design.
    """
    seeds = [audit["provenance"].get("seed") for audit in audits]
    if len(audits) < LEAST_SEEDS:
        raise ConfigError(
            f"a baseline needs runs of at least {LEAST_SEEDS} seeds, got {len(audits)}: fewer do not show how much "
            "training varies"
        )
    doubled = [s for s in seeds if seeds.count(s) > 1 or s is None]
    if doubled:
        raise ConfigError(
            f"the runs of a baseline must differ in their seed; seed {doubled[0]} occurs twice or is absent"
        )
    check_alike(audits)
    keys = dict.fromkeys(key for audit in audits for key in findings_of(audit))
    findings = [_finding(key, audits, statistic) for key in keys]
    if statistic is not None and not any(f.statistic == statistic for f in findings):
        known = sorted({name for f in findings for name in f.figures})
        raise ConfigError(f"--statistic {statistic!r}: no finding has it{nearest(statistic, known)}")
    return Baseline(
        name=audits[0]["name"],
        created=max((a["provenance"].get("finished") or "" for a in audits), default="") or None,
        commit=commit or next((os.environ[v] for v in COMMIT_VARIABLES if os.environ.get(v)), None),
        leakgauge=audits[0]["system"]["leakgauge"],
        seeds=seeds,
        design=run_design(audits[0]),
        trainers=specs_of(audits[0]),
        claims=_claims(audits),
        findings=findings,
    )


def check_alike(audits: Sequence[Document]) -> None:
    """Refuse runs whose name, design or trainers differ: their spread would not be that of seeds."""
    first = audits[0]
    for other in audits[1:]:
        for what, of in (("name", lambda a: a["name"]), ("design", run_design), ("trainers", specs_of)):
            if of(other) != of(first):
                raise IncompatibleError(
                    f"runs of seeds {first['provenance'].get('seed')} and {other['provenance'].get('seed')} differ in "
                    f"{what}: {difference(of(first), of(other))}; a baseline's runs differ in their seed only"
                )


def difference(one: Any, other: Any, path: str = "") -> str:
    """The first place in which two plain values differ: `dp-sgd.noise_multiplier: 1.0 and 0.5`."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in [*one, *(k for k in other if k not in one)]:
            if one.get(key) != other.get(key):
                return difference(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))
    return f"{path}: {one!r} and {other!r}" if path else f"{one!r} and {other!r}"


def _finding(key: Key, audits: Sequence[Document], statistic: str | None) -> BaselineFinding:
    found = [(findings_of(audit).get(key), audit) for audit in audits]
    if any(finding is None for finding, _ in found):
        raise IncompatibleError(f"finding {key} is missing in some runs: a baseline's runs differ in their seed only")
    pairs = [(finding, audit) for finding, audit in found if finding is not None]
    designs = [finding_design(f, a) for f, a in pairs if f["verdict"] != Verdict.ERROR]
    if any(design != designs[0] for design in designs):
        raise IncompatibleError(f"finding {key}: the runs differ in design, {designs[0]} and others")
    raws = [figures_of(f, a["design"]["confidence"]) for f, a in pairs]
    names = dict.fromkeys(name for raw in raws for name in raw)
    figures = {name: figures for name in names if (figures := _collect(name, raws))}
    return BaselineFinding(
        rule=key.rule,
        trainer=key.trainer or None,
        attack=key.attack or None,
        statistic=_deciding(key, figures, statistic),
        verdicts=[f["verdict"] for f, _ in pairs],
        design=designs[0] if designs else {},
        figures=figures,
    )


def _collect(name: str, raws: Sequence[Mapping[str, Mapping[str, Any]]]) -> Figures | None:
    """The statistic over the seeds, if enough of them have it."""
    present = [raw.get(name) for raw in raws]
    known = [raw for raw in present if raw is not None]
    if len(known) < LEAST_SEEDS:
        return None
    columns = {c: [None if raw is None else raw[c] for raw in present] for c in known[0] if c != "better"}
    return Figures(**columns, better=known[0].get("better"))


def _deciding(key: Key, figures: Mapping[str, Figures], wanted: str | None) -> str | None:
    usual = ["guesses", "auc"] if key.rule.startswith("canary.") else ["auc", "guesses", "hits"]
    candidates = [*([wanted] if wanted else []), *usual, *figures]
    return next((name for name in candidates if name in figures), None)


def _claims(audits: Sequence[Document]) -> list[dict[str, Any]]:
    """By trainer the claim with the largest epsilon at its delta: the promise that all seeds keep."""
    weakest: dict[str, Claim] = {}
    for audit in audits:
        for trainer, claim in claims_of(audit).items():
            known = weakest.get(trainer)
            if known is not None and (known.unit, known.adjacency) != (claim.unit, claim.adjacency):
                raise IncompatibleError(f"trainer {trainer!r}: the runs claim different units or adjacencies")
            if known is None or claim.epsilon_at(known.delta) > known.epsilon:
                weakest[trainer] = claim
    return [_claim_row(trainer, claim) for trainer, claim in weakest.items()]


def _claim_row(trainer: str, claim: Claim) -> dict[str, Any]:
    """What a later claim is compared with; of the curve the powers of ten, so that the file stays small."""
    kept = ("epsilon", "delta", "unit", "adjacency", "accountant")
    row = {k: v for k, v in claim_to_json(claim).items() if k in kept}
    curve = [
        {"delta": p.delta, "epsilon": p.epsilon}
        for p in claim.curve
        if abs(math.log10(p.delta) - round(math.log10(p.delta))) < 1e-9
    ]
    return {"trainer": trainer, **row, "curve": curve}
