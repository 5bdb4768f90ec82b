"""Draws the report as Markdown (CommonMark with tables): the HTML's order and numbers, without pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .blocks import (
    Badge,
    Block,
    Bullets,
    Cell,
    Code,
    Details,
    Facts,
    Figure,
    Gallery,
    Heading,
    Link,
    Mono,
    Note,
    Paragraph,
    Report,
    Table,
)

SPECIAL = re.compile(r"([\\`*\[\]|~])|(?<![A-Za-z0-9])(_)|(_)(?![A-Za-z0-9])")
LINE_START = re.compile(r"^(\s*)([#+-]|\d+(?=[.)]))")


def to_markdown(report: Report) -> str:
    """The report as text that ends in a newline. Names from the audit are escaped: none can become markup."""
    parts = [f"# {escape(report.title)}", f"_{escape(report.subtitle)}_"]
    parts += [_block(stamp) for stamp in report.stamps]
    parts += [f"**{escape(report.labels['verdict'])}: {escape(report.verdict.text)}.** {escape(report.sentence)}"]
    if report.figures:
        parts.append("\n".join(f"- **{escape(f.name)}: {escape(f.value)}** ({escape(f.note)})" for f in report.figures))
    for index, section in enumerate(report.sections, 1):
        parts.append(f"## {index}. {escape(section.title)}")
        parts += [_block(block) for block in section.blocks]
    parts += ["---", escape(report.footer)]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """`text` so that every Markdown renderer shows exactly it, on one line."""
    flat = " ".join(text.split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    flat = SPECIAL.sub(lambda match: "\\" + match.group(), flat)
    return LINE_START.sub(_escape_start, flat)


def _escape_start(match: re.Match[str]) -> str:
    found = match.group(2)
    # A number is escaped at its dot, which stands behind it: `1.` becomes `1\.`, and plain numbers stay as they are.
    return f"{match.group(1)}{found}\\" if found.isdigit() else f"{match.group(1)}\\{found}"


def _block(block: Block) -> str:  # noqa: C901 - one short branch a kind of block
    match block:
        case Paragraph(text=text):
            return _prose(text)
        case Heading(text=text):
            return f"### {escape(text)}"
        case Bullets(items=items, ordered=ordered):
            return "\n".join(f"{f'{i}.' if ordered else '-'} {_prose(item)}" for i, item in enumerate(items, 1))
        case Note(text=text, kind=kind):
            return f"> **{'Warning' if kind == 'warning' else 'Note'}:** {_prose(text)}" if False else f"> {_prose(text)}"
        case Table():
            return _table(block)
        case Facts(items=items):
            return "\n".join(f"- **{escape(name)}:** {_cell(value)}" for name, value in items)
        case Figure(alt=alt):
            return f"_{escape(alt)}_"
        case Gallery(figures=figures):
            return "\n".join(f"- {escape(figure.caption)}" for figure in figures)
        case Code(text=text, language=language):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
            return f"{fence}{language}\n{text}\n{fence}"
        case Details(summary=summary, blocks=blocks):
            return "\n\n".join([f"**{escape(summary)}**", *map(_block, blocks)])


def _prose(text: str) -> str:
    """Sentences of the catalogue may hold `code` between backticks; outside of those everything is escaped."""
    pieces = re.split(r"(`[^`]+`)", text)
    return "".join(piece if piece.startswith("`") and len(piece) > 2 else escape_inner(piece) for piece in pieces)


def escape_inner(text: str) -> str:
    """`escape` for a piece inside a line: spaces at its ends are kept."""
    if not text.strip():
        return text
    head, tail = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return (" " if head else "") + escape(text) + (" " if tail else "")


def _table(table: Table) -> str:
    marks = ["---:" if index in table.numeric else "---" for index in range(len(table.columns))]
    lines = [_row(map(escape, table.columns)), _row(marks), *(_row(map(_cell, row)) for row in table.rows)]
    return f"**{escape(table.caption)}**\n\n" + "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(cell: Cell) -> str:
    match cell:
        case str():
            return escape(cell)
        case Link(text=text, url=url):
            return f"[{escape(text)}]({url})"
        case Badge(text=text):
            return f"**{escape(text)}**"
        case Mono(text=text):
            return escape(text)
