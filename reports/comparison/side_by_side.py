"""Verdicts and figures of all columns, line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..blocks import Block, Cell, Details, Figure, Heading, Mono, Note, Paragraph, Section, Table
from ..figures.dots import Dot, dots_figure
from ..model import VERDICTS, Finding, Interval
from ..numbers import interval, shown
from ..texts import Texts
from .columns import Column, Line, Quantity, lines

RATES = ("0.01", "0.1", "0.001", "0.0001")
MOST_COLUMNS = 8
MOST_LINES = 30


def runs_section(texts: Texts, made: Sequence[Column]) -> Section:
    """Every run, and whether the runs may be compared at all."""
    rows: list[tuple[Cell, ...]] = [
        (
            column.name,
            run.badge(run.audit.verdict),
            "–" if run.audit.provenance.seed is None else str(run.audit.provenance.seed),
            run.audit.system.data.name if run.audit.system.data else "–",
            ", ".join(run.audit.access) or "–",
            run.audit.system.leakgauge,
            (run.audit.provenance.finished or "–")[:10],
            Mono(run.audit.provenance.config_digest[:12]),
        )
        for column in made
        for run in column.runs
    ]
    blocks: list[Block] = [Paragraph(texts("compare.runs_intro")), *_differences(texts, made)]
    table = Table(texts("compare.runs_caption"), texts.many("compare.runs_columns"), tuple(rows))
    return Section("runs", texts("compare.runs_title"), (*blocks, table))


def findings_section(texts: Texts, made: Sequence[Column]) -> Section:
    """Verdicts, certified epsilon, AUC and the rate at few false positives, one table each."""
    found = lines(made)
    blocks: list[Block] = [Paragraph(texts("compare.findings_intro"))]
    if any(len(column.runs) > 1 for column in made):
        blocks.append(Note(texts("compare.seeds")))
    blocks += [Heading(texts("compare.verdicts_title")), _verdicts(texts, made, found)]
    blocks += _figure(texts, made, found)
    rate = next((r for r in RATES if any(tpr_at(r)(f) is not None for f in _all(made))), RATES[0])
    quantities: list[tuple[str, Quantity]] = [
        (texts("compare.certified"), certified),
        (texts("compare.auc"), auc),
        (texts("compare.tpr", fpr=rate), tpr_at(rate)),
    ]
    for title, quantity in quantities:
        table = _table(texts, title, made, found, quantity)
        if table is not None:
            blocks += [Heading(title), table if len(table.rows) <= MOST_LINES else Details(title, (table,))]
    return Section("findings", texts("compare.findings_title"), tuple(blocks))


def certified(finding: Finding) -> float | None:
    """The certified epsilon of a finding."""
    return finding.bound.epsilon if finding.bound else None


def auc(finding: Finding) -> Interval | None:
    """The AUC of a finding's attack."""
    return finding.metrics.auc if finding.metrics else None


def tpr_at(rate: str) -> Quantity:
    """The true-positive rate at a false-positive rate, where it was measurable."""

    def read(finding: Finding) -> Interval | None:
        found = finding.metrics.tpr_at_fpr.get(rate) if finding.metrics else None
        return found if found is not None and found.value is not None else None

    return read


def _all(made: Sequence[Column]) -> list[Finding]:
    return [finding for column in made for run in column.runs for finding in run.audit.findings]


def _differences(texts: Texts, made: Sequence[Column]) -> list[Block]:
    runs = [run.audit for column in made for run in column.runs]
    aspects: dict[str, set[Any]] = {
        "data": {run.system.data.name if run.system.data else "" for run in runs},
        "access": {tuple(sorted(run.access)) for run in runs},
        "delta": {run.design.delta for run in runs},
        "sampling": {run.design.sampling for run in runs},
        "version": {run.system.leakgauge for run in runs},
    }
    differing = [texts(f"compare.aspect_{name}") for name, values in aspects.items() if len(values) > 1]
    if not differing:
        return []
    return [Note(texts("compare.differ", aspects=texts("compare.aspect_join").join(differing)), "warning")]


def _verdicts(texts: Texts, made: Sequence[Column], found: Sequence[Line]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for line in found:
        cells: list[Cell] = [str(line)]
        for column in made[:MOST_COLUMNS]:
            counted: Counter[str] = Counter(f.verdict for f in column.findings(line))
            cells.append(_verdict_cell(column, counted))
        rows.append(tuple(cells))
    columns = (texts("compare.line"), *(column.name for column in made[:MOST_COLUMNS]))
    return Table(texts("compare.verdicts_caption"), columns, tuple(rows))


def _verdict_cell(column: Column, counted: Counter[str]) -> Cell:
    run = column.runs[0]
    ordered = sorted(counted, key=[str(v) for v in VERDICTS].index)
    if len(ordered) == 1:
        return run.badge(ordered[0])
    return ", ".join(f"{counted[verdict]} × {run.badge(verdict).text}" for verdict in ordered) or "–"


def _table(texts: Texts, title: str, made: Sequence[Column], found: Sequence[Line], quantity: Quantity) -> Table | None:
    rows: list[tuple[Cell, ...]] = []
    for line in found:
        values = [column.spread(line, quantity) for column in made[:MOST_COLUMNS]]
        if any(value is not None for value in values):
            rows.append((str(line), *(_shown(value, down=quantity is certified) for value in values)))
    if not rows:
        return None
    columns = (texts("compare.line"), *(column.name for column in made[:MOST_COLUMNS]))
    return Table(title, columns, tuple(rows), numeric=tuple(range(1, len(columns))))


def _shown(value: Interval | None, *, down: bool) -> str:
    """A value with its interval or spread; certified epsilons are rounded down."""
    if value is None or value.value is None:
        return "–"
    seeds = f" (n={value.n})" if value.n is not None else ""
    if not down:
        return interval(value) + seeds
    ends = "" if value.low is None or value.high is None else f" [{shown(value.low)}, {shown(value.high)}]"
    return f"{shown(value.value)}{ends}{seeds}"


def _figure(texts: Texts, made: Sequence[Column], found: Sequence[Line]) -> list[Block]:
    shown = [line for line in found if any(column.spread(line, auc) for column in made)][:MOST_LINES]
    if not shown:
        return []
    dots = [
        Dot(str(line), column.name, value)
        for line in shown
        for column in made[:MOST_COLUMNS]
        if (value := column.spread(line, auc)) is not None
    ]
    described = "; ".join(f"{dot.row}, {dot.column}: {interval(dot.value)}" for dot in dots)
    alt = texts("compare.dots_alt", rows=described)
    return [Figure(dots_figure(dots, texts("compare.auc"), alt), alt, texts("compare.dots_caption"))]
