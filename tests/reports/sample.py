"""A realistic audit document, built rather than stored: two trainers, every verdict but over-policy, all controls.

ROC curves are those of two unit Gaussians a distance apart, so that figures agree with each other. Pass `plain=True`
for the quickstart's shape (consistent and no-claim only).
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

from scipy.stats import norm

CONFIG = """[audit]
name = "digits-quickstart"
seed = 20261121
access = ["logits"]
confidence = 0.95
delta = 1e-6

[data]
name = "digits"
label_noise = 0.2

[[trainer]]
id = "sgd"
name = "sgd"
epochs = 60

[[trainer]]
id = "dp-sgd"
name = "dp-sgd"
epsilon = 3.0
delta = 1e-5

[[attack]]
name = "lira"
shadows = 64
guesses = 500
alpha_share = 0.5

[[attack]]
name = "rmia"
shadows = 4
guesses = 500
alpha_share = 0.5
"""
CLAIM = {"epsilon": 3.4721853, "delta": 1e-6}
FAILURE = {"error": "ValueError", "message": "could not read Jane Doe of Springfield"}
CEILING, JUDGED_CEILING = 4.50213, 4.2487


def roc(shift: float, points: int = 400, members: int = 600) -> dict[str, list[float]]:
    """ROC of scores N(shift, 1) against N(0, 1), with a normal band on the logit-free scale."""
    thresholds = [4.5 - 9.0 * i / (points - 1) for i in range(points)]
    fpr = [0.0, *(round(float(norm.sf(t)), 6) for t in thresholds), 1.0]
    tpr = [0.0, *(round(float(norm.sf(t - shift)), 6) for t in thresholds), 1.0]
    spread = [1.96 * math.sqrt(max(p * (1 - p), 1 / members) / members) for p in tpr]
    low = [round(max(0.0, p - s), 6) for p, s in zip(tpr, spread, strict=True)]
    high = [round(min(1.0, p + s), 6) for p, s in zip(tpr, spread, strict=True)]
    return {"fpr": fpr, "tpr": tpr, "low": low, "high": high}


def metrics(shift: float) -> dict[str, Any]:
    auc = round(float(norm.cdf(shift / math.sqrt(2))), 5)
    rates: dict[str, Any] = {}
    for rate in (0.1, 0.01):
        value = float(norm.sf(norm.isf(rate) - shift))
        spread = 1.96 * math.sqrt(value * (1 - value) / 600)
        rates[f"{rate:g}"] = {
            "value": round(value, 6),
            "low": round(max(0.0, value - spread), 6),
            "high": round(min(1.0, value + spread), 6),
        }
    rates["0.001"] = {"value": None, "low": None, "high": None, "reason": "600 non-members are too few"}
    return {
        "auc": {"value": auc, "low": round(auc - 0.0311, 5), "high": round(min(1.0, auc + 0.0309), 5)},
        "tpr_at_fpr": rates,
        "advantage": {
            "value": round(2 * auc - 1, 5),
            "low": round(2 * auc - 1.06, 5),
            "high": round(2 * auc - 0.94, 5),
        },
        "roc": roc(shift),
        "counts": {"members": 598, "nonmembers": 602},
    }


def bound(epsilon: float, correct: int, ceiling: float = CEILING) -> dict[str, Any]:
    return {
        "epsilon": epsilon,
        "delta": 1e-6,
        "confidence": 0.95,
        "method": "one-run",
        "null_class": "approx-dp",
        "validity": "frequentist",
        "selection": "fixed",
        "counts": {"canaries": 1200, "guesses": 500, "correct": correct},
        "ceiling": ceiling,
        "alpha": 0.025,
    }


def judged(epsilon: float, ceiling: float = JUDGED_CEILING) -> dict[str, Any]:
    return {"confidence": 0.999, "epsilon": epsilon, "ceiling": ceiling, "alpha": 0.0005}


def finding(rule: str, verdict: str, trainer: str | None, attack: str | None, **more: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "metrics": None,
        "claim": None,
        "bound": None,
        "judged": None,
        "reason": None,
        "evidence": {},
    }
    return {"rule": rule, "verdict": verdict, "trainer": trainer, "attack": attack, **empty, **more}


def sample(*, plain: bool = False, more: bool = False) -> dict[str, Any]:
    """The document. `plain` leaves out the broken trainer and the failed steps; `more` adds further families."""
    document: dict[str, Any] = {
        "schema": "leakgauge/audit/1",
        "name": "digits-quickstart",
        "status": "ok" if plain else "failed",
        "verdict": "no-claim" if plain else "violated",
        "system": _system(plain),
        "claims": [_claim("dp-sgd")] + ([] if plain else [_claim("dp-sgd-broken")]),
        "access": ["logits"],
        "design": _design(),
        "utility": _utility(plain),
        "findings": [*_findings(plain), *(exhibits() if more else [])],
        "controls": _controls(),
        "coverage": [
            {
                "method": "one-run",
                "line": "2000 trials on randomized response, epsilon 1: 1.4% false claims at nominal 5%",
            }
        ],
        "limits": ["600 non-members are too few for a rate at FPR 0.001."],
        "provenance": _provenance(),
        "timings": {"train": 61.5, "query": 2.25, "attack": 3.75, "bound": 0.5},
        "artifacts": [
            {"path": "bounds.json", "sha256": "ab" * 32, "kind": "bounds"},
            {"path": "scores/lira.parquet", "sha256": "cd" * 32, "kind": "scores"},
        ],
    }
    return copy.deepcopy(document)


def _system(plain: bool) -> dict[str, Any]:
    trainers = [
        {"id": "sgd", "name": "sgd", "spec": {"epochs": 60, "learning_rate": 0.1, "model": "mlp"}, "models": 65},
        {"id": "dp-sgd", "name": "dp-sgd", "spec": {"epsilon": 3.0, "delta": 1e-5, "max_grad_norm": 1.0}, "models": 66},
    ]
    broken = {"id": "dp-sgd-broken", "name": "mypkg.train:Broken", "spec": {"noise": "omitted"}, "models": 66}
    return {
        "leakgauge": "0.1.0",
        "python": "3.11.7",
        "platform": "Linux-x86_64",
        "torch": "2.13.0",
        "opacus": "1.6.0",
        "dp_accounting": "0.6.0",
        "device": "cpu",
        "data": {
            "name": "digits",
            "fingerprint": "5f" * 32,
            "records": 1797,
            "features": [8, 8],
            "classes": 10,
            "label_noise": 0.2,
            "warnings": ["2 records occur among members and non-members"],
        },
        "trainers": trainers if plain else [*trainers, broken],
    }


def _claim(trainer: str) -> dict[str, Any]:
    return {
        "trainer": trainer,
        "epsilon": 2.9987,
        "delta": 1e-5,
        "unit": "record",
        "adjacency": "add-remove",
        "mechanism": {"name": "dp-sgd", "noise_multiplier": 1.2305, "sample_rate": 0.0711111, "steps": 420},
        "accountant": "pld",
        "curve": [dict(CLAIM), {"delta": 1e-5, "epsilon": 2.9987}],
        "assumes": ["Poisson sampling", "secure randomness", "expected batch size is public"],
        "cross_check": {"prv": 2.9991, "rdp": 3.3214, "agrees": True},
        "tested": dict(CLAIM),
    }


def _design() -> dict[str, Any]:
    return {
        "sampling": "coin",
        "audit_records": 1200,
        "population_records": 597,
        "expected_members": 600,
        "confidence": 0.95,
        "violation_confidence": 0.999,
        "delta": 1e-6,
        "ledger": [
            {"trainer": t, "attack": a, "alpha_share": 0.5, "guesses": 500, "bound": "one-run"}
            for t in ("sgd", "dp-sgd")
            for a in ("lira", "rmia")
        ],
    }


def _utility(plain: bool) -> list[dict[str, Any]]:
    def entry(trainer: str, train: float, test: float) -> dict[str, Any]:
        return {
            "trainer": trainer,
            "train_accuracy": {"value": train, "low": train - 0.02, "high": min(1.0, train + 0.02), "n": 598},
            "test_accuracy": {"value": test, "low": test - 0.031, "high": test + 0.028, "n": 597},
            "train_loss": round(1 - train + 0.05, 4),
            "test_loss": round(1.4 - test, 4),
        }

    entries = [entry("sgd", 0.985, 0.7437), entry("dp-sgd", 0.7124, 0.6985)]
    return entries if plain else [*entries, entry("dp-sgd-broken", 0.9762, 0.751)]


def _findings(plain: bool) -> list[dict[str, Any]]:
    clear = [
        finding("membership.lira", "no-claim", "sgd", "lira", metrics=metrics(0.84), bound=bound(0.7312, 371)),
        finding("membership.rmia", "no-claim", "sgd", "rmia", metrics=metrics(0.71), bound=bound(0.5127, 349)),
        finding(
            "membership.lira",
            "consistent",
            "dp-sgd",
            "lira",
            metrics=metrics(0.12),
            claim=dict(CLAIM),
            bound=bound(0.0, 262),
            judged=judged(0.0),
            evidence={"threshold": 0.41, "record_ids": ["0001", "0002"], "refutes": None},
        ),
    ]
    if plain:
        return clear
    return [
        finding(
            "canary.mislabelled",
            "violated",
            "dp-sgd-broken",
            "canary",
            metrics=metrics(3.6),
            claim=dict(CLAIM),
            bound=bound(3.99127, 497),
            judged=judged(3.61214),
            evidence={"refutes": "privacy", "canaries": ["jane.doe@example.org"], "note": "secret phrase"},
        ),
        *clear,
        finding(
            "membership.rmia",
            "underpowered",
            "dp-sgd",
            "rmia",
            metrics=metrics(0.09),
            claim=dict(CLAIM),
            bound=bound(0.0, 255, 2.91),
            judged=judged(0.0, 2.6),
            reason="ceiling-below-claim",
        ),
        finding("inversion.reconstruction", "error", "dp-sgd", "inversion", reason="step-failed", evidence=FAILURE),
    ]


SECRET_TEXT = "my pin is 7391-2246"
SECRET_NAME = "Erika Mustermann"
SECRET_RECORD = "row-000417-erika"
IMAGE = [[(x * 9 + y * 5) % 256 for x in range(28)] for y in range(28)]
COLOUR_IMAGE = [[[x * 8, y * 8, (x * y) % 256] for x in range(32)] for y in range(32)]


def exhibits(*, count: int = 6) -> list[dict[str, Any]]:
    """Findings of further families: named measures, slices, curves, examples and what the attacker holds."""
    threat = {"holds": "one client's update of one round", "knows": "the model and the labels", "effort": "300 steps"}
    measure = {"value": 21.34, "low": 19.81, "high": 22.9, "n": 32, "unit": "dB", "better": "lower"}
    psnr = {**measure, "baseline": {"value": 9.1, "low": 8.8, "high": 9.4, "name": "mean image"}}
    ssim = {"value": None, "reason": "victims are smaller than the window", "better": "lower"}
    images = [
        {
            "kind": "image",
            "label": f"digit {index}",
            "score": 20.0 + index,
            "score_name": "psnr",
            "original": COLOUR_IMAGE if index % 2 else IMAGE,
            "reconstruction": [row[::-1] for row in (COLOUR_IMAGE if index % 2 else IMAGE)],
        }
        for index in range(count)
    ]
    text = {
        "kind": "text",
        "label": "repeated 16 times",
        "original": SECRET_TEXT,
        "reconstruction": SECRET_TEXT,
        "score": 1.0,
    }
    row = {"age": 39, "name": SECRET_NAME}
    table = {"kind": "tabular", "label": "marital status", "original": row, "reconstruction": row, "score": 0.8}
    lines = [
        {
            "name": name,
            "x": [1.0, 2.0, 4.0, 8.0],
            "y": [9.5 + s, 11.0 + s, 14.1 + s, 20.2],
            "low": [9.0, 10.1, 13.0, 19.0],
            "high": [12.0, 13.4, 16.0, 21.5],
        }
        for name, s in (("attack", 1.0), ("mean image", 0.0))
    ]
    series = {
        "title": "PSNR against epsilon",
        "x_label": "epsilon",
        "y_label": "PSNR (dB)",
        "x_scale": "log",
        "lines": lines,
    }
    slices = [
        {
            "slice": f"class {index}",
            "value": 0.5 + index / 50,
            "low": 0.4 + index / 50,
            "high": 0.6 + index / 50,
            "n": 60,
        }
        for index in range(10)
    ]
    auc = {"value": 0.71, "low": 0.63, "high": 0.79, "n": 140, "better": "lower", "baseline": None}
    return [
        finding(
            "inversion.optimisation",
            "no-claim",
            "sgd",
            "inversion",
            metrics={"measures": {"psnr": psnr, "ssim": ssim, "label_recovery": {"value": 1.0, "n": 32}}},
            threat=threat,
            series=[series],
            examples=images,
        ),
        finding(
            "extraction.prompt",
            "no-claim",
            "sgd",
            "extraction",
            metrics={"measures": {"exposure": {"value": 7.2, "low": 5.1, "high": 9.9, "n": 20, "unit": "bits"}}},
            threat={"knows": "the beginning of each secret"},
            examples=[text],
            evidence={"records": [SECRET_RECORD], "prompt": SECRET_TEXT},
        ),
        finding("attribute.inference", "no-claim", "sgd", "attribute", examples=[table], slices=slices),
        finding("client.membership", "no-claim", "sgd", "client", metrics={"measures": {"client_auc": auc}}),
        finding("watermark.removal", "no-claim", "sgd", "watermark", threat={"own_words": "anything at all"}),
    ]


def _controls() -> dict[str, Any]:
    return {
        "positive": {
            "passed": True,
            "figures": [
                {
                    "trainer": "dp-sgd",
                    "attack": "lira",
                    "epsilon": 3.72218,
                    "reported_epsilon": 3.98117,
                    "ceiling": JUDGED_CEILING,
                    "claim": CLAIM["epsilon"],
                    "auc": 0.7412,
                }
            ],
        },
        "negative": {
            "passed": True,
            "figures": [{"trainer": "dp-sgd", "attack": "lira", "epsilon": 0.0, "alpha": 0.001}],
        },
        "blind": {"passed": True, "figures": [{"auc": 0.4931, "p_value": 0.6124, "records": 1200}]},
    }


def _provenance() -> dict[str, Any]:
    return {
        "config_digest": "9e" * 32,
        "config": CONFIG,
        "seed": 20261121,
        "command": "leakgauge run benchmarks/suites/quickstart.toml --out runs/quickstart",
        "started": "2026-11-21T10:00:00+00:00",
        "finished": "2026-11-21T10:01:08+00:00",
        "attempts": [
            {"when": "2026-11-20T18:00:00+00:00", "config_digest": "77" * 32, "seed": 1, "verdict": "underpowered"}
        ],
    }


def write(folder: Path, *, plain: bool = False) -> Path:
    """`audit.json` in `folder`."""
    path = folder / "audit.json"
    path.write_text(json.dumps(sample(plain=plain), indent=1))
    return path
