"""The audit of the audit: controls that must find leakage, controls that must not, and measured coverage."""

from __future__ import annotations

from ..blocks import Block, Cell, Heading, Note, Paragraph, Section, Table
from ..context import Context
from ..model import BlindControl, BlindFigure, Interval, NegativeControl, PositiveControl
from ..numbers import claimed, interval, number, shown


def build(context: Context) -> Section:
    """The three controls, then one line on the coverage of each bound used."""
    texts, controls = context.texts, context.audit.controls
    blocks: list[Block] = [Paragraph(texts("controls.intro"))]
    blocks += _control(context, "positive", controls.positive)
    blocks += _control(context, "negative", controls.negative)
    blocks += _control(context, "blind", controls.blind)
    blocks.append(Heading(texts("coverage.title")))
    lines: list[tuple[Cell, ...]] = [(entry.method, entry.line) for entry in context.audit.coverage]
    if lines:
        blocks += [
            Paragraph(texts("coverage.intro")),
            Table(texts("coverage.caption"), texts.many("coverage.columns"), tuple(lines)),
        ]
    else:
        blocks.append(Paragraph(texts("coverage.none")))
    return Section("controls", texts("controls.title"), tuple(blocks))


def _control(
    context: Context, kind: str, control: PositiveControl | NegativeControl | BlindControl | None
) -> list[Block]:
    texts = context.texts
    passed = control.passed if control else None
    outcome = {True: "passed", False: "failed", None: "not_run"}[passed]
    blocks: list[Block] = [
        Heading(texts(f"controls.{kind}_title")),
        Paragraph(texts(f"controls.{kind}_what")),
        Note(texts(f"controls.{kind}_{outcome}"), "info" if passed else "warning"),
    ]
    rows = _rows(control) if control else []
    if rows:
        columns = texts.many(f"controls.{kind}_columns")
        numeric = tuple(range(1 if kind == "blind" else 2, len(columns)))
        blocks.append(Table(texts(f"controls.{kind}_caption"), columns, tuple(rows), numeric))
    if isinstance(control, BlindControl) and any(figure.powered is False for figure in control.figures):
        blocks.append(Note(texts("controls.blind_weak"), "warning"))
    return blocks


def _rows(control: PositiveControl | NegativeControl | BlindControl) -> list[tuple[Cell, ...]]:
    if isinstance(control, PositiveControl):
        return [
            (
                f.trainer,
                f.attack,
                shown(f.reported_epsilon),
                shown(f.epsilon),
                shown(f.ceiling),
                claimed(f.claim),
                interval(f.auc),
            )
            for f in control.figures
        ]
    if isinstance(control, NegativeControl):
        return [(f.trainer, f.attack, shown(f.epsilon), number(f.alpha)) for f in control.figures]
    return [
        (f.classifier or "–", _blind_auc(f), number(f.p_value), number(f.alpha), number(f.records))
        for f in control.figures
    ]


def _blind_auc(figure: BlindFigure) -> str:
    if isinstance(figure.auc, float):
        return interval(Interval(value=figure.auc, low=figure.low, high=figure.high))
    return interval(figure.auc)
