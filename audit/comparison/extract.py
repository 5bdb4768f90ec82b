"""What is compared of an `audit.json`: findings by their key, figures, claims, and the design they hold for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scipy.special import ndtri

from ..claims_json import claim_from_json
from ..types import Claim
from .figures import MEASURE, logit_error

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """How findings of two runs are matched. `repeat` tells equal ones apart, by their order in the document."""

    rule: str
    trainer: str
    attack: str
    repeat: int = 0

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.trainer, self.attack) if part)
        count = f" #{self.repeat + 1}" if self.repeat else ""
        return f"{self.rule} [{where}]{count}" if where else f"{self.rule}{count}"


def keyed(findings: Iterator[tuple[str, str | None, str | None, Any]]) -> dict[Key, Any]:
    """Rows of (rule, trainer, attack, anything) by key."""
    found: dict[Key, Any] = {}
    for rule, trainer, attack, item in findings:
        repeat = 0
        while (key := Key(rule, trainer or "", attack or "", repeat)) in found:
            repeat += 1
        found[key] = item
    return found


def findings_of(audit: Document) -> dict[Key, Document]:
    """The findings of a run by key."""
    return keyed((f["rule"], f.get("trainer"), f.get("attack"), f) for f in audit["findings"])


def figures_of(finding: Document, confidence: float) -> dict[str, dict[str, Any]]:
    """The raw numbers of every statistic that the finding has; `confidence` is that of intervals which name none.

    `{"guesses": {successes, trials}, "tpr@0.01": {successes, trials}, "auc": {value, error, pairs, trials}}`.
    """
    found: dict[str, dict[str, Any]] = {}
    counts = (finding.get("bound") or {}).get("counts") or {}
    if "guesses" in counts and "correct" in counts:
        found["guesses"] = {"successes": round(counts["correct"]), "trials": round(counts["guesses"])}
    metrics = finding.get("metrics") or {}
    trials = counts.get("runs", counts.get("slots"))
    if "hits" in counts and trials:
        found["hits"] = {"successes": round(counts["hits"]), "trials": round(trials)}
    found |= _measures(metrics.get("measures") or {}, confidence)
    sizes = metrics.get("counts") or {}
    members, nonmembers = sizes.get("members"), sizes.get("nonmembers")
    if not members or not nonmembers:
        return found
    for rate, point in (metrics.get("tpr_at_fpr") or {}).items():
        hits = (sizes.get("thresholds") or {}).get(rate, {}).get("true_positives")
        if point.get("value") is not None and hits is not None:
            found[f"tpr@{rate}"] = {"successes": int(hits), "trials": int(members)}
    auc = metrics.get("auc") or {}
    if auc.get("value") is not None and auc.get("low") is not None and auc.get("high") is not None:
        pairs = int(min(members, nonmembers))
        stated = metrics.get("confidence") or confidence
        error = logit_error(auc["low"], auc["high"], stated, pairs)
        row = {"value": round(auc["value"], 6), "error": round(error, 6), "pairs": pairs}
        found["auc"] = {**row, "trials": int(members + nonmembers)}
    return found


def _measures(measures: Mapping[str, Any], confidence: float) -> dict[str, dict[str, Any]]:
    """A game's measures that say which direction protects people; without an interval seeds alone tell the spread."""
    found = {}
    for name, row in measures.items():
        value, low, high = (row.get(k) for k in ("value", "low", "high"))
        if value is None or row.get("better") is None:
            continue
        reach = 2 * float(ndtri(0.5 + confidence / 2))
        error = 0.0 if low is None or high is None else (high - low) / reach
        raw = {"value": round(value, 6), "error": round(error, 6), "trials": row.get("n") or 1}
        found[MEASURE + name] = {**raw, "better": row["better"]}
    return found


def finding_design(finding: Document, audit: Document) -> dict[str, int]:
    """Sizes that a finding's figures depend on by themselves: without them equal, a difference means nothing."""
    counts = (finding.get("bound") or {}).get("counts") or {}
    sizes = {
        "canaries": counts.get("canaries"),
        "guesses": counts.get("guesses"),
        "shadows": ((finding.get("evidence") or {}).get("needs") or {}).get("shadows"),
    }
    if "canaries" not in counts:
        sizes["audit_records"] = (audit.get("design") or {}).get("audit_records")
    return {name: round(size) for name, size in sizes.items() if size is not None}


def run_design(audit: Document) -> dict[str, Any]:
    """The threat model, the law of membership and the data set's name and shape."""
    data = (audit.get("system") or {}).get("data") or {}
    return {
        "access": sorted(audit.get("access") or []),
        "sampling": (audit.get("design") or {}).get("sampling"),
        "data": data.get("name"),
        "records": data.get("records"),
    }


def claims_of(audit: Document) -> dict[str, Claim]:
    """The claims of a run by trainer."""
    return {c["trainer"]: claim_from_json(c) for c in audit.get("claims") or []}


def specs_of(audit: Document) -> dict[str, dict[str, Any]]:
    """Trainers' specifications by their id."""
    return {t["id"]: {"name": t["name"], **t.get("spec", {})} for t in (audit.get("system") or {}).get("trainers", [])}
