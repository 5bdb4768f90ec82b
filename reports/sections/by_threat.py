"""One table of claim, certified bound, ceiling and utility for each model and each attacker in words."""

from __future__ import annotations

from ..blocks import Block, Cell, Heading, Table
from ..context import Context
from ..model import Finding
from ..numbers import claimed, interval, shown


def by_threat(context: Context, findings: list[Finding]) -> list[Block]:
    """Findings with a bound and an attacker described; nothing where fewer than two differ."""
    bounded = [f for f in findings if f.bound is not None and f.threat and "attacker" in f.threat]
    if len(bounded) < 2:
        return []
    texts = context.texts
    accuracy = {entry.trainer: entry.test_accuracy for entry in context.audit.utility}
    rows = [_row(context, finding, interval(accuracy.get(finding.trainer or ""))) for finding in bounded]
    columns = texts.many("families.by_threat_columns")
    table = Table(texts("families.by_threat_caption"), columns, tuple(rows), numeric=(2, 3, 4, 5))
    return [Heading(texts("families.by_threat_title")), table]


def _row(context: Context, finding: Finding, accuracy: str) -> tuple[Cell, ...]:
    bound = finding.bound
    assert bound is not None
    return (
        context.trainer_name(finding.trainer),
        (finding.threat or {})["attacker"],
        claimed(finding.claim.epsilon) if finding.claim else "–",
        shown(bound.epsilon),
        shown(bound.ceiling),
        accuracy,
        context.badge(finding.verdict),
    )
