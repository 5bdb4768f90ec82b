"""Leakage, utility and communication of every model of the audit, on one page."""

from __future__ import annotations

from collections.abc import Sequence

from ..blocks import Block, Cell, Figure, Paragraph, Section, Table
from ..context import Context
from ..figures.panels import Panel, panels_figure
from ..model import Communication, Interval, Rate
from ..numbers import MISSING, claimed, interval, number, shown
from .utility import largest_auc

RATE = "0.01"
UNITS = ("B", "kB", "MB", "GB", "TB")


def build_all(context: Context) -> tuple[Section, ...]:
    """The section where at least two models have an accuracy or are known to send something; else none."""
    audit = context.audit
    known = {entry.trainer for entry in audit.utility} | {entry.trainer for entry in audit.communication}
    names = [t.id for t in audit.system.trainers if t.id in known] or sorted(known)
    if len(names) < 2:
        return ()
    texts, attack = context.texts, shared_attack(context, names)
    called = attack or texts("tradeoff.strongest")
    columns = tuple(column.format(attack=called) for column in texts.many("tradeoff.columns"))
    rows = tuple(_row(context, name, attack) for name in names)
    table = Table(texts("tradeoff.caption"), columns, rows, numeric=tuple(range(1, 6)))
    note = texts("tradeoff.one_attack", attack=attack) if attack else texts("tradeoff.many_attacks")
    blocks: list[Block] = [Paragraph(texts("tradeoff.intro")), *_figure(context, names, attack), table]
    if audit.communication:
        sent = tuple(_sent_row(context, name) for name in names)
        columns = texts.many("tradeoff.sent_columns")
        blocks.append(Table(texts("tradeoff.sent_caption"), columns, sent, numeric=tuple(range(1, 5))))
    blocks.append(Paragraph(f"{note} {texts('tradeoff.note')}"))
    return (Section("tradeoff", texts("tradeoff.title"), tuple(blocks)),)


def shared_attack(context: Context, names: Sequence[str]) -> str | None:
    """The attack with an AUC on most of the models, on two at least; among equals the first of the audit. Figures of
    different attacks are different measurements."""
    held: dict[str, set[str]] = {}
    for finding in context.audit.findings:
        known = (
            finding.metrics is not None and finding.metrics.auc is not None and finding.metrics.auc.value is not None
        )
        if known and finding.attack is not None and finding.trainer in names:
            held.setdefault(finding.attack, set()).add(finding.trainer or "")
    shared = {attack: models for attack, models in held.items() if len(models) > 1}
    return max(shared, key=lambda attack: len(shared[attack]), default=None)


def size(value: float | None) -> str:
    """Bytes in decimal units to three digits: `10560.0` is `10.6 kB`."""
    if value is None:
        return MISSING
    unit = 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{number(value, digits=3)} {UNITS[unit]}"


def _row(context: Context, name: str, attack: str | None) -> tuple[Cell, ...]:
    head = context.headline(name)
    return (
        name,
        interval(_accuracy(context, name)),
        interval(_auc(context, name, attack)),
        interval(_rate(context, name, attack)),
        shown(head.certified),
        claimed(head.tested_epsilon),
    )


def _sent_row(context: Context, name: str) -> tuple[Cell, ...]:
    sent = _sent(context, name)
    return (
        name,
        _bits(sent),
        size(sent.upload_bytes_per_client_round),
        size(sent.upload_bytes),
        size(sent.released_bytes),
    )


def _bits(sent: Communication) -> str:
    coded = sent.entropy_bits_per_parameter
    bits = number(sent.bits_per_parameter, digits=3)
    return bits if coded is None else f"{bits} ({number(coded, digits=3)})"


def _figure(context: Context, names: list[str], attack: str | None) -> list[Block]:
    texts = context.texts
    traffic = [_traffic(context, name) for name in names]
    panels = [
        Panel(texts("tradeoff.auc_axis"), [_auc(context, name, attack) for name in names], guess=0.5),
        Panel(texts("tradeoff.accuracy_axis"), [_accuracy(context, name) for name in names]),
        Panel(
            texts("tradeoff.bytes_axis"),
            [None if value is None else Interval(value=value) for value in traffic],
            logarithmic=True,
            labels=[size(value) for value in traffic],
        ),
    ]
    shown_panels = [panel for panel in panels if any(v is not None and v.value for v in panel.values)]
    if not shown_panels:
        return []
    described = "; ".join(
        texts(
            "tradeoff.point",
            trainer=name,
            auc=interval(_auc(context, name, attack)),
            accuracy=interval(_accuracy(context, name)),
            bytes=size(value),
        )
        for name, value in zip(names, traffic, strict=True)
    )
    alt = texts("tradeoff.alt", points=described)
    caption = texts("tradeoff.figure_caption", attack=attack or texts("tradeoff.strongest"))
    return [Figure(panels_figure(names, shown_panels, alt), alt, caption)]


def _traffic(context: Context, name: str) -> float | None:
    """Bytes of all uploads; of the released model where nothing is uploaded, since that is what is shared then."""
    sent = _sent(context, name)
    return sent.upload_bytes or sent.released_bytes or None


def _sent(context: Context, name: str) -> Communication:
    found = (entry for entry in context.audit.communication if entry.trainer == name)
    return next(found, Communication(trainer=name))


def _accuracy(context: Context, name: str) -> Interval | None:
    return next((e.test_accuracy for e in context.audit.utility if e.trainer == name), None)


def _auc(context: Context, name: str, attack: str | None) -> Interval | None:
    """The AUC of `attack` on a model; of its strongest attack where none is shared."""
    if attack is None:
        return largest_auc(context, name)
    return next((f.metrics.auc for f in context.findings_of(name) if f.attack == attack and f.metrics), None)


def _rate(context: Context, name: str, attack: str | None) -> Rate | None:
    """The true-positive rate at 1 % false positives of `attack`; the largest of all attacks where none is shared."""
    findings = [f for f in context.findings_of(name) if attack is None or f.attack == attack]
    rates = [f.metrics.tpr_at_fpr.get(RATE) for f in findings if f.metrics]
    known = [rate for rate in rates if rate is not None and rate.value is not None]
    return max(known, key=lambda rate: rate.value or 0.0, default=None)
