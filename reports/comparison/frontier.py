"""The privacy-utility frontier over all runs: which models nothing else beats in both leakage and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..blocks import Block, Cell, Figure, Paragraph, Section, Table
from ..figures.frontier import FrontierPoint, frontier_figure
from ..model import Interval
from ..numbers import claimed, interval, shown
from ..sections.utility import largest_auc
from ..texts import Texts
from .columns import Column, spread


@dataclass(frozen=True, slots=True)
class Model:
    """One trainer of one column: leakage and accuracy over its seeds, its claim, and its largest certified epsilon."""

    name: str
    leakage: Interval
    accuracy: Interval
    claimed: float | None
    certified: float | None


def frontier_section(texts: Texts, made: Sequence[Column]) -> Section | None:
    """A chart and a table of all models with an AUC and an accuracy; None without any."""
    models = [model for column in made for model in _models(column, alone=len(made) == 1)]
    if not models:
        return None
    best = {model.name for model in undominated(models)}
    points = [FrontierPoint(m.name, m.leakage, m.accuracy, m.name in best) for m in models]
    described = "; ".join(
        texts("utility.point", trainer=m.name, auc=interval(m.leakage), accuracy=interval(m.accuracy)) for m in models
    )
    alt = texts("utility.alt", points=described)
    words = {"leakage": texts("utility.leakage_axis"), "accuracy": texts("utility.accuracy_axis")}
    rows: list[tuple[Cell, ...]] = [
        (
            m.name,
            interval(m.leakage),
            interval(m.accuracy),
            claimed(m.claimed),
            shown(m.certified),
            texts("compare.on_frontier" if m.name in best else "compare.beaten"),
        )
        for m in sorted(models, key=lambda m: m.leakage.value or 0.0)
    ]
    table = Table(texts("compare.frontier_caption"), texts.many("compare.frontier_columns"), tuple(rows), (1, 2, 3, 4))
    blocks: list[Block] = [Paragraph(texts("compare.frontier_intro"))]
    blocks.append(Figure(frontier_figure(points, words, alt), alt, texts("compare.frontier_figure")))
    return Section("frontier", texts("compare.frontier_title"), (*blocks, table))


def undominated(models: Sequence[Model]) -> list[Model]:
    """Models that no other beats: none leaks less at no less accuracy, or is more accurate at no more leakage."""
    return [model for model in models if not any(_beats(other, model) for other in models)]


def _beats(one: Model, other: Model) -> bool:
    left, right = (
        (one.leakage.value or 0.0, one.accuracy.value or 0.0),
        (
            other.leakage.value or 0.0,
            other.accuracy.value or 0.0,
        ),
    )
    return left[0] <= right[0] and left[1] >= right[1] and left != right


def _models(column: Column, *, alone: bool) -> list[Model]:
    names = dict.fromkeys(entry.trainer for run in column.runs for entry in run.audit.utility)
    made = []
    for name in names:
        entries = [(run, e) for run in column.runs for e in run.audit.utility if e.trainer == name]
        leakage = spread(a for run, _ in entries if (a := largest_auc(run, name)) is not None)
        accuracy = spread(e.test_accuracy for _, e in entries if e.test_accuracy is not None)
        heads = [run.headline(name) for run, _ in entries]
        if leakage is not None and accuracy is not None and accuracy.value is not None:
            label = name if alone else f"{column.name}: {name}"
            claims = [h.claim.epsilon for h in heads if h.claim]
            bounds = [h.certified for h in heads if h.certified is not None]
            made.append(Model(label, leakage, accuracy, max(claims, default=None), max(bounds, default=None)))
    return made
