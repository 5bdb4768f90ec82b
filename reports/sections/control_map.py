"""What regulators and standards ask, and which findings are evidence for it. Never a statement of compliance."""

from __future__ import annotations

from ..blocks import Block, Cell, Facts, Heading, Link, Note, Paragraph, Section, Table
from ..context import Context
from ..control_maps import ControlMap, load_control_maps


def build(context: Context) -> Section:
    """One table a control map."""
    texts = context.texts
    blocks: list[Block] = [Note(texts("map.disclaimer"), "warning"), Paragraph(texts("map.intro"))]
    for control_map in load_control_maps():
        source = Facts(((texts("map.source"), Link(control_map.url, control_map.url)),))
        blocks += [Heading(control_map.title), source, _table(context, control_map)]
    return Section("controls-map", texts("map.title"), tuple(blocks))


def _table(context: Context, control_map: ControlMap) -> Table:
    texts = context.texts
    rows: list[tuple[Cell, ...]] = []
    for row in control_map.rows:
        matched = dict.fromkeys(f.rule for f in context.audit.findings if row.covers(f.rule))
        places = [texts(f"map.section_{name}") for name in row.sections]
        evidence = ", ".join([*matched, *places]) or texts("map.no_evidence")
        wording = texts("map.checked", copy=row.compared_with) if row.checked and row.compared_with else None
        asks = f"{row.asks} “{row.quote}”" if row.quote else row.asks
        rows.append((row.reference, asks, evidence, wording or texts("map.unchecked")))
    caption = texts("map.caption", title=control_map.title)
    columns = texts.many("map.columns")
    return Table(caption, columns, tuple(rows))
