"""The coverage of each bound as measured by the last kept thorough selftest, in one line for a report."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from ..errors import ConfigError, StaleArtifactError
from ..registry import BOUNDS, nearest
from .report import SelftestReport

FILE = "coverage.json"


def coverage_line(method: str) -> str:
    """How often the bound `method` claimed too much in the kept selftest: one sentence. Unknown name: `ConfigError`."""
    if method not in BOUNDS.names():
        raise ConfigError(f"coverage: unknown bound {method!r}{nearest(method, BOUNDS.names())}")
    stored = _stored()
    levels = stored["methods"].get(method)
    if not levels:
        return f"{method}: coverage not measured by the selftest"
    parts = [
        f"{level['worst']:.2%} at nominal {level['alpha']:.1%} ({level['mechanism']}; {level['cells']} mechanisms, "
        f"{_how(level)})"
        for level in levels
    ]
    promise = " It promises no frequency and never decides." if method == "bayesian" else ""
    return (
        f"{method}: worst measured false-claim rate {' and '.join(parts)}, selftest of {stored['date']}, "
        f"leakgauge {stored['versions']['leakgauge']}.{promise}"
    )


def coverage_summary(report: SelftestReport, date: str) -> dict[str, Any]:
    """The document that `coverage_line` reads: for each method and level the worst cell and how it was measured."""
    methods: dict[str, list[dict[str, Any]]] = {}
    for name in sorted({cell.method for cell in report.false_claims}):
        for alpha in sorted({cell.alpha for cell in report.false_claims}, reverse=True):
            cells = [c for c in report.false_claims if c.method == name and c.alpha == alpha]
            if not cells:
                continue
            worst = max(cells, key=lambda c: c.rate)
            simulated = [c.trials for c in cells if c.trials]
            methods.setdefault(name, []).append(
                {
                    "alpha": alpha,
                    "worst": worst.rate,
                    "mechanism": worst.mechanism,
                    "cells": len(cells),
                    "exact": len(cells) - len(simulated),
                    "trials": min(simulated, default=0),
                    "passed": all(c.passed for c in cells),
                }
            )
    return {
        "schema": "leakgauge/coverage/1",
        "date": date,
        "trials": report.trials,
        "thorough": report.thorough,
        "passed": report.passed,
        "versions": report.versions,
        "methods": methods,
    }


def _how(level: dict[str, Any]) -> str:
    exact = "enumerated exactly" if level["exact"] else ""
    simulated = f"{level['trials']} simulated audits each" if level["trials"] else ""
    return " or ".join(filter(None, (exact, simulated)))


def _stored() -> dict[str, Any]:
    try:
        text = resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8")
        stored: dict[str, Any] = json.loads(text)
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise StaleArtifactError(
            f"{FILE} of the selftest is missing or broken ({type(error).__name__}): reinstall leakgauge"
        ) from None
    return stored
