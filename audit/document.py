"""The pieces of `audit.json` (DESIGN 8), from typed results to plain values."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .accounting import cross_check
from .bank import Signals, installed_version
from .blind import BlindResult
from .claims_json import claim_from_json, claim_to_json
from .errors import ConfigError, IncompatibleError
from .metrics import accuracy_interval, membership_metrics
from .metrics.membership import FALSE_POSITIVE_RATES, rate_key
from .plugs import spec_of
from .prepare import Material
from .trial import Certified, JudgedBy
from .types import Access, BoolArray, Bound, Claim, PrivateTrainer, Scores, Unit, Verdict
from .verdict import REASONS, Judgement

if TYPE_CHECKING:
    from .setting import Setting

SCHEMA = "leakgauge/audit/1"


@dataclass(slots=True)
class TrainerPart:
    """What one trainer adds to the document; filled attack by attack."""

    identity: str
    claim: Claim | None
    utility: dict[str, Any]
    record: dict[str, Any]
    findings: list[dict[str, Any]] = field(default_factory=list)
    positive: list[dict[str, Any]] = field(default_factory=list)
    negative: list[dict[str, Any]] = field(default_factory=list)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    communication: dict[str, Any] = field(default_factory=dict)


def claim_of(target: Signals) -> Claim | None:
    """The claim that the target's training record supports."""
    stored = target.record.get("claim")
    return claim_from_json(stored) if stored else None


def utility(material: Material, inside: BoolArray, target: Signals, identity: str) -> dict[str, Any]:
    """Accuracy and loss on the rows trained on and on the population, which no model has seen; empty where there is
    nothing to classify (text without labels)."""
    if material.universe.classes < 2:
        return {}
    total = len(material.universe)
    answers = target.log_probabilities
    train = _fit_quality(answers[:total][inside], material.universe.labels[inside])
    test = _fit_quality(answers[total:], material.population.labels)
    frequent = np.bincount(material.population.labels).max() / max(1, len(material.population))
    return {
        "trainer": identity,
        "train_accuracy": train["accuracy"],
        "test_accuracy": test["accuracy"],
        "train_loss": train["loss"],
        "test_loss": test["loss"],
        "majority_share": float(frequent),
        "learned": bool(test["accuracy"]["low"] > frequent),
    }


def _fit_quality(answers: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, Any]:
    correct = int(np.sum(answers.argmax(axis=1) == labels))
    loss = -answers[np.arange(len(labels)), labels].astype(np.float64)
    return {"accuracy": accuracy_interval(correct, len(labels), 0.95).to_json(), "loss": float(loss.mean())}


def metrics_of(scores: Scores, inside: BoolArray, confidence: float) -> dict[str, Any]:
    """Attack metrics with intervals, as plain values."""
    return membership_metrics(scores.values, inside, confidence=confidence).to_json()


def tpr_at(metrics: Mapping[str, Any], fpr: float) -> dict[str, Any] | None:
    """The measured true-positive rate at a policy's false-positive rate; None where it is not measurable."""
    rate: dict[str, Any] = metrics["tpr_at_fpr"][check_rate(fpr)]
    return None if rate["value"] is None else rate


def check_rate(fpr: float) -> str:
    """The key of a policy's false-positive rate in the metrics; `ConfigError` for one that is not measured."""
    measured = {rate: rate_key(rate) for rate in FALSE_POSITIVE_RATES}
    if fpr not in measured:
        raise ConfigError(f"policy.tpr_at_fpr.fpr: {fpr:g} is not measured; choose from {', '.join(measured.values())}")
    return measured[fpr]


def finding(
    part: TrainerPart,
    identity: str,
    attack: Any,
    judgement: Judgement,
    certified: Certified | None,
    metrics: Mapping[str, Any],
    how: JudgedBy | None,
    *,
    claim: Claim | None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One finding of DESIGN 8. `claim` is the one tested, if any; `how` is None where nothing is bounded."""
    tested = None
    if claim is not None and how is not None:
        tested = {"epsilon": claim.epsilon_at(how.delta), "delta": how.delta}
    evidence: dict[str, Any] = {
        "refutes": judgement.refutes,
        "needs": _needs(attack),
        "model_steps": part.record.get("steps"),
    }
    if judgement.reason:
        evidence["meaning"] = REASONS.get(judgement.reason, judgement.reason)
    return {
        "rule": rule_of(attack),
        "verdict": str(judgement.verdict),
        "trainer": part.identity,
        "attack": identity,
        "metrics": dict(metrics),
        "claim": tested,
        "bound": certified.reported.to_json() if certified else None,
        "judged": judged(certified.judged, how.violation_confidence) if certified and how else None,
        "reason": judgement.reason,
        "evidence": evidence | dict((extra or {}).get("evidence", {})),
        **{key: value for key, value in (extra or {}).items() if key in FINDING_EXTRAS},
    }


FINDING_EXTRAS = ("threat", "series", "examples", "slices")
"""Optional keys of a finding, in the shapes of `audit.games`."""


def judged(bound: Bound, confidence: float) -> dict[str, float]:
    """The bound at the confidence that a verdict needs."""
    return {"confidence": confidence, "epsilon": bound.epsilon, "ceiling": bound.ceiling, "alpha": bound.alpha}


def rule_of(attack: Any) -> str:
    """The rule id of an attack's findings: its own family, else `client.*` for canary clients, `canary.*` for records
    or gradients it crafts, `membership.*` for natural records."""
    family = getattr(attack, "family", None)
    if family is None and getattr(attack, "unit", Unit.RECORD) is Unit.CLIENT:
        family = "client"
    if family is None:
        crafts = getattr(attack, "crafts_records", False) or hasattr(attack, "score_canaries")
        family = "canary" if crafts else "membership"
    return f"{family}.{attack.name}"


def _needs(attack: Any) -> dict[str, Any]:
    needs = attack.needs
    return {"shadows": needs.shadows, "access": needs.access.names(), "population": needs.population}


def error_finding(setting: Setting, trainer: str, attack: str, error: Exception) -> dict[str, Any]:
    """A step that failed, kept in the document with its message."""
    return {
        "rule": rule_of(setting.attacks[attack]),
        "verdict": str(Verdict.ERROR),
        "trainer": trainer,
        "attack": attack,
        "metrics": None,
        "claim": None,
        "bound": None,
        "judged": None,
        "reason": "step-failed",
        "evidence": {"error": type(error).__name__, "message": " ".join(str(error).split())[:500]},
    }


def failed_trainer(setting: Setting, identity: str, error: Exception) -> TrainerPart:
    """Every attack on a trainer that failed is a finding with verdict `error`."""
    part = TrainerPart(identity, None, {}, {})
    part.findings = [error_finding(setting, identity, attack, error) for attack in setting.attacks_on(identity)]
    return part


def positive_figure(
    part: TrainerPart,
    attack: str,
    twin: Certified,
    scores: Scores,
    inside: BoolArray,
    how: JudgedBy,
    claim: Claim | None,
) -> dict[str, Any]:
    """What the same attack shows on the unprotected twin, at the judging confidence."""
    figure = twin_figure(part.identity, attack, twin, claim, how)
    return figure | {"auc": metrics_of(scores, inside, 0.95)["auc"]["value"]}


def twin_figure(trainer: str, attack: str, twin: Certified, claim: Claim | None, how: JudgedBy) -> dict[str, Any]:
    """The bound on the unprotected twin beside the claim, without an attack's curve."""
    return {
        "trainer": trainer,
        "attack": attack,
        "epsilon": twin.judged.epsilon,
        "reported_epsilon": twin.reported.epsilon,
        "ceiling": twin.judged.ceiling,
        "claim": claim.epsilon_at(how.delta) if claim else None,
        "auc": None,
    }


def negative_figure(trainer: str, attack: str, bound: Bound) -> dict[str, Any]:
    """What the same scores certify against coins that no model has seen."""
    return {"trainer": trainer, "attack": attack, "epsilon": bound.epsilon, "alpha": bound.alpha}


def ledger_row(trainer: str, how: JudgedBy) -> dict[str, Any]:
    """What was fixed before training about how one attack on one trainer is judged."""
    return {
        "trainer": trainer,
        "attack": how.attack,
        "alpha_share": how.alpha_share,
        "guesses": how.guesses,
        "bound": how.method,
        "delta": how.delta,
    }


def assemble(
    setting: Setting, parts: list[TrainerPart], blind: BlindResult, timings: Mapping[str, float], device: str
) -> dict[str, Any]:
    """The document without provenance and artifacts."""
    findings = [f for p in parts for f in p.findings]
    errors = any(f["verdict"] == Verdict.ERROR for f in findings)
    return {
        "schema": SCHEMA,
        "name": setting.config.audit.name,
        "status": "failed" if errors else "ok",
        "verdict": str(Verdict.worst([Verdict(f["verdict"]) for f in findings])),
        "system": system(setting, device),
        "claims": [claim_entry(p) for p in parts if p.claim is not None],
        "access": Access.names(setting.access),
        "design": design(setting, parts),
        "utility": [p.utility for p in parts if p.utility],
        "communication": [p.communication for p in parts if p.communication],
        "findings": findings,
        "controls": controls(parts, blind),
        "coverage": coverage(findings),
        "limits": limits(setting),
        "timings": {name: round(seconds, 3) for name, seconds in timings.items()},
    }


def system(setting: Setting, device: str) -> dict[str, Any]:
    """Versions, data and trainers."""
    return {
        **versions(device),
        "data": data_entry(setting.material),
        "trainers": [
            {
                "id": identity,
                "name": setting_name(setting, identity),
                "spec": spec_of(trainer),
                # The unprotected twin of a private trainer has as many models again.
                "models": (1 + setting.shadows_for(identity)) * (2 if isinstance(trainer, PrivateTrainer) else 1),
            }
            for identity, trainer in setting.trainers.items()
        ],
    }


def versions(device: str) -> dict[str, str]:
    """Versions of what the numbers depend on."""
    from .. import __version__

    return {
        "leakgauge": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "torch": installed_version("torch"),
        "opacus": installed_version("opacus"),
        "dp_accounting": installed_version("dp-accounting"),
        "device": device,
    }


def data_entry(material: Material) -> dict[str, Any]:
    """What was learned from: digests and sizes, no record."""
    universe = material.universe
    return {
        "name": universe.name,
        "fingerprint": material.fingerprint,
        "records": len(universe) + len(material.population),
        "features": list(universe.features.shape[1:]),
        "classes": universe.classes,
        "label_noise": material.label_noise,
        "warnings": list(material.warnings),
    }


def setting_name(setting: Setting, identity: str) -> str:
    """The plug-in name behind a trainer's identity."""
    return next(t.name for t in setting.config.trainer if t.identity == identity)


def promises(claim: Claim, delta: float) -> float | None:
    """Epsilon of a claim at `delta`; None where it promises nothing."""
    try:
        return claim.epsilon_at(delta)
    except IncompatibleError:
        return None


def claim_entry(part: TrainerPart) -> dict[str, Any]:
    """A claim with its fine print, the cross-check by other accountants, and the point that was tested."""
    assert part.claim is not None
    # A game may test another claim, that of one release, at a delta of its own: only findings on this claim count here.
    tested_at = [
        f["claim"]["delta"]
        for f in part.findings
        if f["claim"] and promises(part.claim, f["claim"]["delta"]) == f["claim"]["epsilon"]
    ]
    delta = tested_at[0] if tested_at else part.claim.delta
    tested = {"delta": delta, "epsilon": part.claim.epsilon_at(delta)}
    return {
        "trainer": part.identity,
        **claim_to_json(part.claim),
        "mechanism": {"name": part.claim.mechanism.name, **dict(part.claim.mechanism.parameters)},
        "cross_check": cross_check(part.claim) if part.claim.mechanism.name == "dp-sgd" else None,
        "tested": tested,
    }


def design(setting: Setting, parts: list[TrainerPart]) -> dict[str, Any]:
    """Who could be a member, and everything fixed beforehand about how scores are judged."""
    audit = setting.config.audit
    return {
        "sampling": setting.config.design.sampling,
        "audit_records": setting.material.audit.stop - setting.material.audit.start,
        "canaries": {a: s.stop - s.start for a, s in setting.material.parts.items()},
        "population_records": len(setting.material.population),
        "expected_members": len(setting.material.universe) / 2,
        "shadows": setting.shadows,
        "confidence": audit.confidence,
        "violation_confidence": audit.violation_confidence,
        "delta": audit.delta,
        "ledger": [row for p in parts for row in p.ledger],
    }


def controls(parts: list[TrainerPart], blind: BlindResult) -> dict[str, Any]:
    """Positive: every twin certifies something. Negative: nothing is certified on fresh coins. Blind: split is fair."""
    positive = [row for p in parts for row in p.positive]
    negative = [row for p in parts for row in p.negative]
    twins = {row["trainer"] for row in positive}
    found = {row["trainer"] for row in positive if row["reported_epsilon"] > 0}
    return {
        "positive": {"passed": (found == twins) if twins else None, "figures": positive},
        "negative": {
            "passed": all(row["epsilon"] == 0 for row in negative) if negative else None,
            "figures": negative,
        },
        # A check too small to fail has not passed either.
        "blind": {"passed": not blind.separates if blind.powered else None, "figures": [blind.to_json()]},
    }


def coverage(findings: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The measured coverage of every bound that the findings use."""
    from .selftest import coverage_line

    methods = dict.fromkeys(f["bound"]["method"] for f in findings if f["bound"])
    return [{"method": m, "line": coverage_line(m)} for m in methods]


FAMILIES = {
    "membership": "membership of records",
    "canary": "recognition of inserted canaries",
    "client": "membership of clients",
    "inversion": "reconstruction",
    "attribute": "inference of attributes",
    "extraction": "extraction of text",
    "exposure": "exposure of secrets",
}
"""Families of attacks in plain words; a third party's family is named as it is."""


def tested_families(setting: Setting) -> str:
    """What the attacks of this audit test, as one phrase."""
    families = dict.fromkeys(rule_of(attack).partition(".")[0] for attack in setting.attacks.values())
    names = [FAMILIES.get(family, family) for family in families]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def limits(setting: Setting) -> list[str]:
    """What this audit cannot say, in plain sentences."""
    sentences = [
        "A certified bound is a lower bound: the true leakage may be anywhere between it and the claim.",
        "The attacker sees only what the threat model grants "
        f"({', '.join(setting.access.names())}); a stronger attacker may learn more.",
        f"Only {tested_families(setting)} was tested; other kinds of attack were not.",
    ]
    if not setting.material.parts:
        sentences.append(
            "The records attacked are ordinary ones; crafted worst-case canaries usually show more leakage."
        )
    if any(getattr(t, "epsilon", None) is not None for t in setting.trainers.values()):
        sentences.append(
            "The claim assumes that noise and sampling come from a secure source of randomness; that was not tested."
        )
    for identity, trainer in setting.trainers.items():
        notes = getattr(trainer, "notes", None)
        sentences += [f"{identity}: {note}" for note in notes()] if callable(notes) else []
    return sentences


def write_membership(path: Path, material: Material, inside: BoolArray) -> None:
    """`membership.parquet`: record, part, inside. It stays in the run folder and is never shared."""
    part = np.full(len(material.universe), "audit", dtype=object)
    for name, where in material.parts.items():
        part[where] = name
    _write_parquet(path, {"record": list(material.universe.records), "part": list(part), "inside": inside})


def write_scores(path: Path, scores: Scores, inside: BoolArray) -> None:
    """One attack's scores: record, score, inside."""
    _write_parquet(path, {"record": list(scores.records), "score": scores.values, "inside": inside})


def _write_parquet(path: Path, columns: Mapping[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    pq.write_table(pa.table(dict(columns)), temporary)
    temporary.replace(path)
