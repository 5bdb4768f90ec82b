"""Audit documents small enough to read, for comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np

from leakgauge.audit.metrics import membership_metrics


def finding(seed: int, *, effect: float = 0.8, trainer: str = "dp-sgd", attack: str = "lira", **changes: Any) -> dict:
    rng = np.random.default_rng([seed, len(attack)])
    inside = rng.random(600) < 0.5
    scores = rng.normal(size=600) + effect * inside
    order = np.argsort(scores)
    correct = int((~inside[order[:100]]).sum() + inside[order[-100:]].sum())
    counts = {"canaries": 600.0, "guesses": 200.0, "correct": float(correct)}
    bound = {
        "epsilon": 0.1,
        "delta": 1e-5,
        "confidence": 0.95,
        "method": "one-run",
        "null_class": "approx-dp",
        "validity": "frequentist",
        "selection": "fixed",
        "counts": counts,
        "ceiling": 4.0,
        "alpha": 0.05,
    }
    return {
        "rule": f"membership.{attack}",
        "verdict": "consistent",
        "trainer": trainer,
        "attack": attack,
        "metrics": membership_metrics(scores, inside).to_json(),
        "claim": {"epsilon": 3.0, "delta": 1e-5},
        "bound": bound,
        "judged": None,
        "reason": None,
        "evidence": {"needs": {"shadows": 8, "access": ["logits"], "population": False}},
        **changes,
    }


def document(seed: int, findings: list[dict] | None = None, *, epsilon: float | None = 3.0, **changes: Any) -> dict:
    claim = {
        "trainer": "dp-sgd",
        "epsilon": epsilon,
        "delta": 1e-5,
        "unit": "record",
        "adjacency": "add-remove",
        "mechanism": {"name": "dp-sgd", "noise_multiplier": 1.0},
        "accountant": "pld",
        "curve": [{"delta": 1e-6, "epsilon": 3.5}, {"delta": 1e-5, "epsilon": epsilon}],
    }
    found = [finding(seed)] if findings is None else findings
    verdicts = ["violated", "exceeds-policy", "error", "underpowered", "no-claim", "consistent"]
    return {
        "schema": "leakgauge/audit/1",
        "name": "small",
        "status": "ok",
        "verdict": min((f["verdict"] for f in found), key=verdicts.index, default="underpowered"),
        "system": {
            "leakgauge": "0.1.0",
            "data": {"name": "digits", "records": 1797},
            "trainers": [{"id": "dp-sgd", "name": "dp-sgd", "spec": {"noise_multiplier": 1.0}, "models": 9}],
        },
        "claims": [] if epsilon is None else [claim],
        "access": ["logits"],
        "design": {"sampling": "coin", "audit_records": 600, "confidence": 0.95},
        "findings": found,
        "provenance": {"config_digest": "0" * 64, "seed": seed, "finished": f"2026-11-21T08:{seed % 60:02d}:00Z"},
        **changes,
    }
