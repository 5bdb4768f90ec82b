"""How useful the models are, beside how much they leak."""

from __future__ import annotations

from ..blocks import Block, Cell, Figure, Note, Paragraph, Section, Table
from ..context import Context
from ..figures.frontier import FrontierPoint, frontier_figure
from ..model import Interval, Utility
from ..numbers import interval, number, shown


def build(context: Context) -> Section:
    """Accuracy and loss beside the largest AUC and certified epsilon of each model, and both in one picture."""
    texts, utility = context.texts, context.audit.utility
    if not utility:
        return Section("utility", texts("utility.title"), (Paragraph(texts("utility.none")),))
    rows: list[tuple[Cell, ...]] = [
        (
            entry.trainer,
            interval(entry.train_accuracy),
            interval(entry.test_accuracy),
            number(entry.majority_share, digits=3),
            number(entry.train_loss),
            number(entry.test_loss),
            interval(largest_auc(context, entry.trainer)),
            shown(context.headline(entry.trainer).certified),
        )
        for entry in utility
    ]
    table = Table(texts("utility.caption"), texts.many("utility.columns"), tuple(rows), numeric=tuple(range(1, 8)))
    idle = [entry.trainer for entry in utility if entry.learned is False and entry.representation is None]
    blocks: list[Block] = [Paragraph(texts("utility.intro")), *_figure(context, utility), table]
    blocks += [Note(texts("utility.learned_nothing", trainer=trainer), "warning") for trainer in idle]
    blocks += _representations(context, utility)
    return Section("utility", texts("utility.title"), tuple(blocks))


def _representations(context: Context, utility: list[Utility]) -> list[Block]:
    """What linear probes and held-out records say of features learned without labels."""
    texts = context.texts
    shown_rows = [(entry.trainer, entry.representation, entry.learned) for entry in utility if entry.representation]
    if not shown_rows:
        return []
    rows: list[tuple[Cell, ...]] = [
        (
            trainer,
            interval(found.probe_accuracy),
            interval(found.raw_accuracy),
            interval(found.untrained_accuracy),
            number(found.reconstruction_error),
            number(found.mean_row_error),
            number(found.untrained_error),
        )
        for trainer, found, _ in shown_rows
    ]
    columns = texts.many("utility.representation_columns")
    table = Table(texts("utility.representation_caption"), columns, tuple(rows), numeric=tuple(range(1, 7)))
    notes = [
        Note(texts("utility.representation_nothing", trainer=trainer), "warning")
        for trainer, _, learned in shown_rows
        if learned is False
    ]
    return [Paragraph(texts("utility.representation")), table, *notes]


def largest_auc(context: Context, trainer: str) -> Interval | None:
    """The AUC of the trainer's strongest attack."""
    found = [f.metrics.auc for f in context.findings_of(trainer) if f.metrics and f.metrics.auc]
    return max((auc for auc in found if auc.value is not None), key=lambda auc: auc.value or 0.0, default=None)


def _figure(context: Context, utility: list[Utility]) -> list[Block]:
    texts = context.texts
    points = [
        FrontierPoint(entry.trainer, auc, entry.test_accuracy)
        for entry in utility
        if (auc := largest_auc(context, entry.trainer))
        and entry.test_accuracy
        and entry.test_accuracy.value is not None
    ]
    if len(points) < 2:
        return []
    described = "; ".join(
        texts("utility.point", trainer=p.name, auc=interval(p.leakage), accuracy=interval(p.accuracy)) for p in points
    )
    alt = texts("utility.alt", points=described)
    words = {"leakage": texts("utility.leakage_axis"), "accuracy": texts("utility.accuracy_axis")}
    return [Figure(frontier_figure(points, words, alt), alt, texts("utility.figure_caption"))]
