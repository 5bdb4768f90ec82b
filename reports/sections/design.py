"""Which data, who could be a member, and what was fixed before the run."""

from __future__ import annotations

from ..blocks import Block, Cell, Facts, Mono, Note, Paragraph, Section, Table
from ..context import Context
from ..numbers import number, percent


def build(context: Context) -> Section:
    """The data, the membership design, and the ledger of error probability."""
    texts, design = context.texts, context.audit.design
    blocks: list[Block] = [Paragraph(texts(f"design.sampling_{design.sampling}")), Facts(_data(context))]
    data = context.audit.system.data
    if data:
        blocks += [Note(warning, "warning") for warning in data.warnings]
    if design.ledger:
        blocks += [Paragraph(texts("design.ledger_intro")), _ledger(context)]
    return Section("design", texts("design.title"), tuple(blocks))


def _data(context: Context) -> tuple[tuple[str, Cell], ...]:
    texts, design, data = context.texts, context.audit.design, context.audit.system.data
    items: list[tuple[str, Cell | None]] = []
    if data:
        items += [
            (texts("design.data"), data.name),
            (texts("design.records"), _count(data.records)),
            (texts("design.features"), " × ".join(map(str, data.features)) or None),
            (texts("design.classes"), _count(data.classes)),
            (texts("design.label_noise"), percent(data.label_noise)),
            (texts("design.fingerprint"), Mono(data.fingerprint) if data.fingerprint else None),
        ]
    items += [
        (texts("design.audit_records"), _count(design.audit_records)),
        (texts("design.population_records"), _count(design.population_records)),
        (texts("design.expected_members"), _count(design.expected_members)),
        (texts("design.canaries"), _canaries(design.canaries)),
        (texts("design.shadows"), _count(design.shadows)),
        (texts("design.models"), _count(sum(t.models for t in context.audit.system.trainers) or None)),
        (texts("design.delta"), _count(design.delta)),
        (texts("design.confidence"), percent(design.confidence)),
        (texts("design.violation_confidence"), percent(design.violation_confidence)),
    ]
    return tuple((name, value) for name, value in items if value is not None)


def _count(value: float | int | None) -> str | None:
    return None if value is None else number(value)


def _canaries(planted: dict[str, int]) -> str | None:
    return ", ".join(f"{attack} {number(count)}" for attack, count in planted.items()) or None


def _ledger(context: Context) -> Table:
    texts = context.texts
    rows: list[tuple[Cell, ...]] = [
        (
            context.trainer_name(entry.trainer),
            entry.attack,
            number(entry.alpha_share),
            number(entry.guesses),
            entry.bound or "–",
            number(entry.delta),
        )
        for entry in context.audit.design.ledger
    ]
    return Table(texts("design.ledger_caption"), texts.many("design.ledger_columns"), tuple(rows), numeric=(2, 3, 5))
