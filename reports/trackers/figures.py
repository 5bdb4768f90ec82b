"""An audit as flat names and numbers, the form that trackers understand. Only figures: no evidence, no examples."""

from __future__ import annotations

import re

from ..model import Audit, Finding, Interval


def settings_of(audit: Audit) -> dict[str, str]:
    """What a run is told apart by: verdict, digest, seed, versions and claims."""
    settings = {
        "verdict": audit.verdict,
        "status": audit.status,
        "config_digest": audit.provenance.config_digest,
        "seed": str(audit.provenance.seed),
        "leakgauge": audit.system.leakgauge,
        "access": ",".join(audit.access),
        "data": audit.system.data.name if audit.system.data else "",
    }
    for finding in audit.findings:
        settings[f"{_stem(finding)}/verdict"] = finding.verdict
    return settings


def figures_of(audit: Audit) -> dict[str, float]:
    """`{"dp-sgd/lira/epsilon_certified": 0.04, ...}`; what was not measured is absent."""
    figures: dict[str, float | None] = {}
    for claim in audit.claims:
        figures[f"{_name(claim.trainer)}/epsilon_claimed"] = claim.epsilon
    for entry in audit.utility:
        figures |= _interval(f"{_name(entry.trainer)}/test_accuracy", entry.test_accuracy)
    for finding in audit.findings:
        figures |= _finding(finding)
    return {name: float(value) for name, value in figures.items() if value is not None}


def _finding(finding: Finding) -> dict[str, float | None]:
    stem = _stem(finding)
    figures: dict[str, float | None] = {}
    if finding.bound is not None:
        figures |= {
            f"{stem}/epsilon_certified": finding.bound.epsilon,
            f"{stem}/epsilon_ceiling": finding.bound.ceiling,
        }
    metrics = finding.metrics
    if metrics is None:
        return figures
    figures |= _interval(f"{stem}/auc", metrics.auc)
    for rate, found in metrics.tpr_at_fpr.items():
        figures |= _interval(f"{stem}/tpr_at_fpr_{rate}", found)
    for name, measure in metrics.measures.items():
        figures |= _interval(f"{stem}/{_name(name)}", measure)
    return figures


def _interval(name: str, value: Interval | None) -> dict[str, float | None]:
    if value is None or value.value is None:
        return {}
    return {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}


def _stem(finding: Finding) -> str:
    return "/".join(_name(part) for part in (finding.trainer, finding.attack or finding.rule) if part)


def _name(text: str) -> str:
    """Letters that every tracker accepts in a name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)
