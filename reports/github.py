"""For GitHub: a step summary in Markdown, small enough to be accepted, and annotations on the audit file.

GitHub refuses summaries above one mebibyte whole; ours stay below 100 kB, the worst findings first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..audit.comparison.github import workflow_command
from .config_lines import config_line, config_location
from .context import Context
from .headline import sentence
from .markdown import escape
from .model import VERDICTS, Finding
from .numbers import claimed, interval, shown
from .sections.verdict import why

LARGEST = 100_000
"""Bytes."""
LEVELS = {"violated": "error", "exceeds-policy": "error", "error": "error", "underpowered": "warning"}
COLUMNS = ("verdict", "finding", "trainer", "claimed", "certified", "ceiling", "AUC", "why")


def to_summary(context: Context) -> str:
    """The step summary: verdict, one row a finding, limits. Rows that would not fit are counted instead."""
    audit = context.audit
    top = [
        f"## {escape(audit.name)}: {escape(context.badge(audit.verdict).text)}",
        "",
        escape(sentence(context)),
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---|---|---|---:|---:|---:|---:|---|",
    ]
    bottom = ["", *(f"* {escape(limit)}" for limit in audit.limits), "", _origin(context)]
    findings = sorted(audit.findings, key=lambda f: VERDICTS.index(f.verdict))
    rows = _fitting((_row(context, f) for f in findings), LARGEST - _size([*top, *bottom]) - 200)
    left = len(findings) - len(rows)
    if left:
        bottom = ["", f"{left} more findings are in `audit.json`.", *bottom]
    text = "\n".join([*top, *rows, *bottom]) + "\n"
    # The names of an audit are free text: no part of it may grow without end.
    return text if len(text.encode()) < LARGEST else text.encode()[: LARGEST - 1].decode(errors="ignore")


def annotate(context: Context) -> Iterator[str]:
    """Workflow commands for findings that somebody should act on, worst first, on the line that asked for them."""
    file, config = config_location(context), context.audit.provenance.config
    for finding in sorted(context.audit.findings, key=lambda f: VERDICTS.index(f.verdict)):
        if finding.verdict in LEVELS:
            title = f"{finding.rule} [{context.trainer_name(finding.trainer)}]: {finding.verdict}"
            line = config_line(config, finding)
            yield workflow_command(LEVELS[finding.verdict], file, line, title, why(context, finding))


def _row(context: Context, finding: Finding) -> str:
    name = finding.rule if finding.attack is None else f"{finding.rule} ({finding.attack})"
    cells = [
        context.badge(finding.verdict).text,
        name,
        context.trainer_name(finding.trainer),
        claimed(finding.claim.epsilon) if finding.claim else "",
        shown(finding.bound.epsilon) if finding.bound else "",
        shown(finding.bound.ceiling) if finding.bound else "",
        interval(finding.metrics.auc) if finding.metrics and finding.metrics.auc else "",
        why(context, finding),
    ]
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"


def _origin(context: Context) -> str:
    audit = context.audit
    text = (
        f"LeakGauge {audit.system.leakgauge}, seed {audit.provenance.seed}, audit file {audit.provenance.config_digest}"
    )
    return f"<sub>{escape(text)}</sub>"


def _fitting(rows: Iterable[str], room: int) -> list[str]:
    kept: list[str] = []
    for row in rows:
        room -= _size([row])
        if room < 0:
            break
        kept.append(row)
    return kept


def _size(lines: list[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)
