"""What the attacker was allowed, what was tried, and what was not."""

from __future__ import annotations

from ...audit.types import Access
from ..blocks import Cell, Heading, Paragraph, Section, Table
from ..context import Context
from ..model import VERDICTS
from .families import family_name

FAMILIES = (
    "membership",
    "canary",
    "client",
    "inversion",
    "attribute",
    "extraction",
    "transcript",
    "supermask",
    "static",
    "probe",
)


def build(context: Context) -> Section:
    """The declared access level by level, then the families of attack."""
    texts = context.texts
    return Section(
        "threat",
        texts("threat.title"),
        (
            Paragraph(texts("threat.intro")),
            _access(context),
            Heading(texts("threat.families_title")),
            _families(context),
            Paragraph(texts("threat.outside")),
        ),
    )


def _access(context: Context) -> Table:
    texts, declared = context.texts, Access.parse(context.audit.access)
    rows: list[tuple[Cell, ...]] = []
    for level in Access:
        name = (level.name or "").lower()
        seen = "threat.tested" if declared.covers(level) else "threat.not_tested"
        rows.append((texts(f"access.{name}.name"), texts(seen), texts(f"access.{name}.meaning")))
    return Table(texts("threat.access_caption"), texts.many("threat.access_columns"), tuple(rows))


def _families(context: Context) -> Table:
    texts = context.texts
    prefixes = dict.fromkeys((*FAMILIES, *(finding.family for finding in context.audit.findings)))
    rows: list[tuple[Cell, ...]] = []
    for prefix in prefixes:
        findings = [f for f in context.audit.findings if f.family == prefix]
        failed = findings and all(f.verdict == "error" for f in findings)
        status = "threat.failed" if failed else "threat.tested" if findings else "threat.not_asked"
        by = ", ".join(dict.fromkeys(f.attack or f.rule for f in findings))
        worst = min((f.verdict for f in findings), key=VERDICTS.index, default=None)
        rows.append(
            (
                family_name(context, prefix),
                texts(status),
                by or "–",
                context.badge(worst) if worst else "–",
                texts.find(f"family.{prefix}.meaning") or "",
            )
        )
    return Table(texts("threat.families_caption"), texts.many("threat.families_columns"), tuple(rows))
