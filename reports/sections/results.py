"""The measurements: epsilon claimed, certified and showable; ROC curves; true positives at few false ones."""

from __future__ import annotations

import json

from ..blocks import Block, Cell, Code, Details, Figure, Gallery, Heading, Paragraph, Section, Table
from ..context import Context
from ..figures.epsilon import EpsilonRow, epsilon_figure
from ..figures.roc import roc_figure
from ..masking import hide
from ..model import Finding
from ..numbers import claimed, interval, number, percent, shown

MOST_BARS = 40
MOST_CURVES = 24
"""A page with more curves than this helps nobody and grows past what a CI artefact viewer opens."""


def build(context: Context) -> Section:
    """Bounds, curves, rates and the evidence behind each finding."""
    texts = context.texts
    blocks: list[Block] = []
    bounded = [finding for finding in context.audit.findings if finding.bound]
    if bounded:
        blocks += [Paragraph(texts("results.bounds_intro")), *_epsilons(context, bounded), _bounds(context, bounded)]
        blocks += [_fine_print(context, bounded)]
    else:
        blocks.append(Paragraph(texts("results.no_bounds")))
    blocks += _curves(context)
    measured = [f for f in context.audit.findings if f.metrics and (f.metrics.auc or f.metrics.tpr_at_fpr)]
    if measured:
        blocks += [Heading(texts("results.rates_title")), Paragraph(texts("results.rates_intro"))]
        blocks += [_rates(context, measured), *_unmeasurable(context, measured), *_ties(context, measured)]
    blocks += _evidence(context)
    return Section("results", texts("results.title"), tuple(blocks))


def label(context: Context, finding: Finding) -> str:
    """`dp-sgd · lira`."""
    return f"{context.trainer_name(finding.trainer)} · {finding.attack or finding.rule}"


def _epsilons(context: Context, findings: list[Finding]) -> list[Block]:
    texts = context.texts
    rows = [
        EpsilonRow(
            label(context, f),
            f.claim.epsilon if f.claim else None,
            f.bound.epsilon,
            f.bound.ceiling,
        )
        for f in findings
        if f.bound
    ]
    positive = context.audit.controls.positive
    # The twin shares the design of the protected model's finding, and so its ceiling at the reporting confidence.
    ceilings = {(f.trainer, f.attack): f.bound.ceiling for f in findings if f.bound}
    rows += [
        EpsilonRow(
            texts("results.twin_of", trainer=f.trainer, attack=f.attack),
            f.claim,
            f.at_confidence,
            f.ceiling if f.reported_epsilon is None else ceilings.get((f.trainer, f.attack)),
        )
        for f in (positive.figures if positive else [])
        if f.at_confidence is not None
    ]
    words = {key: texts(f"figures.{key}.name") for key in ("claimed", "certified", "ceiling")}
    drawn = rows[:MOST_BARS]
    described = "; ".join(texts("results.bar_alt", **row.described()) for row in drawn)
    alt = texts("results.epsilon_alt", rows=described)
    figure = Figure(epsilon_figure(drawn, words, alt), alt, texts("results.epsilon_caption"))
    if len(rows) == len(drawn):
        return [figure]
    return [figure, Paragraph(texts("results.bars_more", shown=str(len(drawn)), total=str(len(rows))))]


def _bounds(context: Context, findings: list[Finding]) -> Table:
    texts = context.texts
    rows: list[tuple[Cell, ...]] = []
    for finding in findings:
        bound, judged = finding.bound, finding.judged
        if bound is None:
            continue
        rows.append(
            (
                label(context, finding),
                number(bound.delta),
                claimed(finding.claim.epsilon) if finding.claim else "–",
                f"{shown(bound.epsilon)} ({percent(bound.confidence)})",
                f"{shown(judged.epsilon)} ({percent(judged.confidence)})" if judged else "–",
                shown(bound.ceiling),
                shown(judged.ceiling) if judged else "–",
            )
        )
    columns = texts.many("results.bound_columns")
    return Table(texts("results.bound_caption"), columns, tuple(rows), numeric=(1, 2, 3, 4, 5, 6))


def _fine_print(context: Context, findings: list[Finding]) -> Table:
    texts = context.texts
    rows: list[tuple[Cell, ...]] = [
        (
            label(context, finding),
            bound.method,
            bound.null_class,
            texts(f"validity.{bound.validity}"),
            bound.selection,
            number(bound.alpha),
            ", ".join(f"{key} {number(_whole(value))}" for key, value in bound.counts.items()) or "–",
        )
        for finding in findings
        if (bound := finding.bound)
    ]
    columns = texts.many("results.fine_print_columns")
    return Table(texts("results.fine_print_caption"), columns, tuple(rows), numeric=(5,))


def _whole(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


def _curves(context: Context) -> list[Block]:
    texts = context.texts
    found = [f for f in context.audit.findings if f.metrics and f.metrics.roc and f.metrics.roc.fpr]
    if not found:
        return []
    words = {key: texts(f"roc.{key}") for key in ("fpr", "tpr", "attack", "chance", "allowed")}
    figures = []
    for finding in found[:MOST_CURVES]:
        name = label(context, finding)
        alt = texts("roc.alt", name=name, rates=_spoken_rates(context, finding))
        caption = texts("roc.caption", name=name, auc=interval(finding.metrics.auc if finding.metrics else None))
        figures.append(Figure(roc_figure(finding, words, alt), alt, caption))
    blocks: list[Block] = [Heading(texts("roc.title")), Paragraph(texts("roc.intro")), Gallery(tuple(figures))]
    if len(found) > MOST_CURVES:
        blocks.append(Paragraph(texts("roc.more", shown=str(MOST_CURVES), total=str(len(found)))))
    return blocks


def _spoken_rates(context: Context, finding: Finding) -> str:
    rates = finding.metrics.tpr_at_fpr if finding.metrics else {}
    spoken = [context.texts("roc.rate", fpr=rate, tpr=interval(found)) for rate, found in rates.items()]
    return "; ".join(spoken)


def _rates(context: Context, findings: list[Finding]) -> Table:
    texts = context.texts
    levels = sorted({rate for f in findings if f.metrics for rate in f.metrics.tpr_at_fpr}, key=float, reverse=True)
    rows: list[tuple[Cell, ...]] = []
    for finding in findings:
        metrics = finding.metrics
        if metrics is None:
            continue
        averages = (metrics.auc, metrics.advantage, metrics.balanced_accuracy)
        row: list[Cell] = [label(context, finding), *map(interval, averages)]
        row += [interval(metrics.tpr_at_fpr.get(level)) for level in levels]
        rows.append(tuple(row))
    columns = (*texts.many("results.rate_columns"), *(texts("results.tpr_at", fpr=level) for level in levels))
    caption = texts("results.rates_caption", confidence=percent(context.audit.design.confidence))
    return Table(caption, columns, tuple(rows), numeric=tuple(range(1, len(columns))))


def _unmeasurable(context: Context, findings: list[Finding]) -> list[Block]:
    sentences = dict.fromkeys(
        context.texts("results.unmeasurable", fpr=rate, reason=found.reason)
        for f in findings
        if f.metrics
        for rate, found in f.metrics.tpr_at_fpr.items()
        if found.value is None and found.reason
    )
    return [Paragraph(sentence) for sentence in sentences]


def _ties(context: Context, findings: list[Finding]) -> list[Block]:
    points = [
        (label(context, finding), rate, found.attainable)
        for finding in findings
        if finding.metrics
        for rate, found in finding.metrics.tpr_at_fpr.items()
    ]
    return [
        Paragraph(
            context.texts("results.ties", name=name, fpr=rate, value=number(at.value), attained=number(at.fpr)),
        )
        for name, rate, at in points
        if at is not None
    ]


def _evidence(context: Context) -> list[Block]:
    texts = context.texts
    details: list[Block] = []
    for finding in context.audit.findings:
        content = hide(finding.evidence, reveal=context.reveal, free_text=False, salt=context.salt)
        if content:
            text = json.dumps(content, indent=2, ensure_ascii=False)
            details.append(Code(f"{finding.rule} ({label(context, finding)})\n{text}", "json"))
    if not details:
        return []
    return [Details(texts("results.evidence"), tuple(details))]
