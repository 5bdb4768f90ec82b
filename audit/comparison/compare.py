"""The regression gate: one run against a baseline of several seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import ConfigError
from ..types import Verdict
from .baseline import Baseline, BaselineFinding
from .build import difference
from .claims import ClaimChange, compare_claims
from .extract import (
    Document,
    Key,
    claims_of,
    figures_of,
    finding_design,
    findings_of,
    keyed,
    run_design,
    specs_of,
)
from .figures import Observation, observation
from .holm import holm
from .measured import Measured, measure_against
from .policy import fails_on
from .prediction import Prediction

CONFIDENCE = 0.99
Status = Literal["regressed", "incomparable", "underpowered", "improved", "new", "ok"]
STATUSES: tuple[Status, ...] = ("regressed", "incomparable", "underpowered", "improved", "new", "ok")
FAILING: tuple[Status, ...] = ("regressed", "incomparable", "underpowered")
"""Both worst first."""
WORSE = (Verdict.VIOLATED, Verdict.EXCEEDS_POLICY, Verdict.ERROR)


@dataclass(frozen=True, slots=True)
class Row:
    """One finding of the comparison: the worst of its statuses, every reason, and the figures if there are any."""

    key: Key
    status: Status
    reasons: tuple[str, ...]
    before: str | None
    after: str | None
    measured: Measured | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        measured = None
        if self.measured is not None:
            low, high = self.measured.effect_interval
            measured = {
                **dataclasses.asdict(self.measured),
                "effect": self.measured.effect,
                "effect_low": low,
                "effect_high": high,
            }
        return {
            "rule": self.key.rule,
            "trainer": self.key.trainer or None,
            "attack": self.key.attack or None,
            "status": self.status,
            "reasons": list(self.reasons),
            "verdict_before": self.before,
            "verdict_after": self.after,
            "measured": measured,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that `leakgauge compare` found. `notes` inform and change nothing."""

    name: str
    confidence: float
    seeds: int
    run_seed: int | str | None
    rows: tuple[Row, ...]
    claims: tuple[ClaimChange, ...]
    notes: tuple[str, ...]
    policy: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """The worst of all rows and claims; `ok` also when some improved or are new."""
        found = {row.status for row in self.rows} | {claim.status for claim in self.claims}
        if self.policy:
            found.add("underpowered")
        return next((s for s in FAILING if s in found), "ok")

    @property
    def exit_code(self) -> int:
        """0 ok, 1 regressed, 2 not comparable, 3 underpowered."""
        return {"regressed": 1, "incomparable": 2, "underpowered": 3}.get(self.status, 0)

    def to_json(self) -> dict[str, Any]:
        """The document of `leakgauge compare --json`."""
        return {
            "schema": "leakgauge/comparison/1",
            "name": self.name,
            "status": self.status,
            "exit_code": self.exit_code,
            "confidence": self.confidence,
            "seeds": self.seeds,
            "run_seed": self.run_seed,
            "findings": [row.to_json() for row in self.rows],
            "claims": [claim.to_json() for claim in self.claims],
            "policy": list(self.policy),
            "notes": list(self.notes),
        }


def compare_run(baseline: Baseline, audit: Document, *, confidence: float = CONFIDENCE) -> Comparison:
    """Compare a run with a baseline.

    A run of the same code is called a regression with probability at most 1 - `confidence`, over all findings
    together, as far as the figures of seeds are normal on their scale (docs/comparison.md measures it where not).
    `ConfigError` for a confidence outside (0, 1) and for a run of another audit.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie strictly between 0 and 1, got {confidence}")
    if baseline.name != audit["name"]:
        raise ConfigError(f"the baseline is of audit {baseline.name!r}, the run of {audit['name']!r}")
    old = keyed((f.rule, f.trainer, f.attack, f) for f in baseline.findings)
    new = findings_of(audit)
    mismatch = _design_change(baseline, audit)
    tests = {} if mismatch else _tests(old, new, audit)
    decisions = holm([prediction.p_value(seen) for prediction, seen in tests.values()], 1 - confidence)
    measured = {key: measure_against(old[key], *tests[key], d) for key, d in zip(tests, decisions, strict=True)}
    rows = [_row(key, old[key], new.get(key), measured.get(key), audit, mismatch) for key in old]
    rows += [_new_row(key, finding) for key, finding in new.items() if key not in old]
    return Comparison(
        baseline.name,
        confidence,
        len(baseline.seeds),
        audit["provenance"].get("seed"),
        tuple(rows),
        tuple(compare_claims(baseline.claims, claims_of(audit))),
        tuple(_notes(baseline, audit)),
        tuple(fails_on(audit)),
    )


def _tests(
    old: Mapping[Key, BaselineFinding], new: Mapping[Key, Document], audit: Document
) -> dict[Key, tuple[Prediction, Observation]]:
    """The family: every finding whose deciding statistic is in the run, measured on the same design."""
    tests = {}
    for key, finding in old.items():
        run = new.get(key)
        if finding.statistic is None or run is None or _other_design(finding, run, audit):
            continue
        raw = figures_of(run, audit["design"]["confidence"]).get(finding.statistic)
        if raw is not None:
            tests[key] = (Prediction.of(finding.figures[finding.statistic].observations()), observation(raw))
    return tests


def _row(
    key: Key,
    old: BaselineFinding,
    new: Document | None,
    measured: Measured | None,
    audit: Document,
    mismatch: str | None,
) -> Row:
    before = str(Verdict.worst([Verdict(v) for v in old.verdicts]))
    if new is None:
        return Row(key, "regressed", ("the finding is gone",), before, None)
    found: list[tuple[Status, str]] = [*_verdict_change(before, new["verdict"])]
    if mismatch or (not found and _other_design(old, new, audit)):
        found.append(("incomparable", mismatch or _other_design(old, new, audit)))
    elif measured is not None:
        found += _figure_change(measured)
    elif old.statistic is not None and new["verdict"] != Verdict.ERROR:
        found.append(("regressed", f"the figure {old.statistic} is gone"))
    statuses = [s for s, _ in found]
    status: Status = min(statuses, key=STATUSES.index) if statuses else "ok"
    return Row(key, status, tuple(text for _, text in found), before, new["verdict"], measured)


def _figure_change(measured: Measured) -> list[tuple[Status, str]]:
    if measured.above:
        return [("regressed", "leaks more than a further seed of the baseline would")]
    if measured.saturated:
        return [("ok", "the baseline leaks nearly all there is: it cannot get worse")]
    if not measured.visible:
        return [("underpowered", "seeds vary so much that even a perfect attack would pass: use more seeds or records")]
    if measured.below:
        return [("improved", "leaks less than the seeds of the baseline: is the audit still working?")]
    return []


def _verdict_change(before: str, after: str) -> list[tuple[Status, str]]:
    order = list(Verdict)
    if Verdict(after) in WORSE and order.index(Verdict(after)) < order.index(Verdict(before)):
        return [("regressed", f"the verdict was {before} in the worst seed and is {after}")]
    return []


def _new_row(key: Key, finding: Document) -> Row:
    verdict = finding["verdict"]
    if Verdict(verdict) in WORSE:
        return Row(key, "regressed", (f"not in the baseline, and {verdict}",), None, verdict)
    return Row(key, "new", ("not in the baseline: not compared",), None, verdict)


def _design_change(baseline: Baseline, audit: Document) -> str | None:
    # More records than before is no other design; each finding checks the sizes that its figures depend on.
    parts = ("access", "sampling", "data")
    was, now = ({p: design.get(p) for p in parts} for design in (baseline.design, run_design(audit)))
    return None if was == now else f"the design differs, {difference(was, now)}: make a new baseline"


def _other_design(old: BaselineFinding, new: Document, audit: Document) -> str:
    now = finding_design(new, audit)
    if new["verdict"] == Verdict.ERROR or not old.design or now == old.design:
        return ""
    return f"the design differs, {difference(old.design, now)}: make a new baseline"


def _notes(baseline: Baseline, audit: Document) -> Sequence[str]:
    notes = []
    if baseline.leakgauge != audit["system"]["leakgauge"]:
        notes.append(
            f"the baseline was made by LeakGauge {baseline.leakgauge}, the run by {audit['system']['leakgauge']}"
        )
    if baseline.design.get("records") != run_design(audit)["records"]:
        notes.append(f"the data had {baseline.design.get('records')} records and has {run_design(audit)['records']}")
    specs = specs_of(audit)
    for trainer, spec in baseline.trainers.items():
        if trainer in specs and specs[trainer] != spec:
            notes.append(f"trainer {trainer} differs, {difference(spec, specs[trainer])}")
    if audit["provenance"].get("seed") in baseline.seeds:
        notes.append(f"seed {audit['provenance'].get('seed')} is one of the baseline's own")
    return notes
