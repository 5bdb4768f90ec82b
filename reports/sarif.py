"""SARIF 2.1.0: findings that somebody should act on, as alerts on the line of the audit file that asked for them.

`consistent` and `no-claim` are left out of `results`, because code-scanning services show every result as an alert;
the run's properties count them. Fingerprints depend on rule, trainer and attack only, so an alert keeps its identity
while figures change.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from .config_lines import config_line, config_location
from .context import Context
from .model import VERDICTS, Finding
from .numbers import claimed, shown
from .sections.verdict import why

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
INFORMATION = "https://pypi.org/project/leakgauge/"
LEVELS = {"violated": "error", "exceeds-policy": "error", "error": "error", "underpowered": "warning"}


def to_sarif(context: Context) -> str:
    """The log as JSON text."""
    audit = context.audit
    rules = list(dict.fromkeys(finding.rule for finding in audit.findings))
    counts = {v: sum(finding.verdict == v for finding in audit.findings) for v in VERDICTS}
    driver = {
        "name": "LeakGauge",
        "version": audit.system.leakgauge,
        "informationUri": INFORMATION,
        "rules": [_rule(context, rule) for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": audit.status == "ok"}],
        "results": [_result(context, f, rules.index(f.rule)) for f in audit.findings if f.verdict in LEVELS],
        "columnKind": "utf16CodeUnits",
        "properties": {"verdict": audit.verdict, "findings": counts, "configDigest": audit.provenance.config_digest},
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, ensure_ascii=False) + "\n"


def _rule(context: Context, rule: str) -> dict[str, Any]:
    texts, family = context.texts, rule.split(".")[0]
    name = texts.find(f"family.{family}.name") or family
    question = texts.find(f"family.{family}.meaning") or rule
    return {
        "id": rule,
        "name": "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", rule)),
        "shortDescription": {"text": f"{name}: {rule}"},
        "fullDescription": {"text": question},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": ["security", "privacy"]},
    }


def _result(context: Context, finding: Finding, index: int) -> dict[str, Any]:
    identity = "|".join((finding.rule, finding.trainer or "", finding.attack or ""))
    text = f"{context.badge(finding.verdict).text}: {context.trainer_name(finding.trainer)}. {why(context, finding)}"
    if finding.bound:
        text += f" Certified epsilon {shown(finding.bound.epsilon)}, ceiling {shown(finding.bound.ceiling)}"
        text += f", claimed {claimed(finding.claim.epsilon)}." if finding.claim else "."
    location = {
        "artifactLocation": _uri(config_location(context)),
        "region": {"startLine": config_line(context.audit.provenance.config, finding)},
    }
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": LEVELS[finding.verdict],
        "message": {"text": text},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"leakgaugeFinding/v1": hashlib.sha256(identity.encode()).hexdigest()},
        "properties": {"verdict": finding.verdict},
    }


def _uri(path: str) -> dict[str, str]:
    if PurePosixPath(path).is_absolute():
        return {"uri": "file://" + quote(path)}
    return {"uri": quote(path.removeprefix("./")), "uriBaseId": "%SRCROOT%"}
