"""Draws the report as Markdown (CommonMark with tables): the HTML's order and numbers, without pictures."""

from __future__ import annotations

import functools
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
    Pictures,
    Report,
    Table,
)

SPECIAL = re.compile(r"([\\`*\[\]|~])|(?<![A-Za-z0-9])(_)|(_)(?![A-Za-z0-9])")
LINE_START = re.compile(r"^(#{1,6}|[+-]|\d{1,9}(?=[.)](?:\s|$)))(?=\s|$|[.)])")


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
    found = match.group(1)
    # A list number is escaped at the dot behind it: `1.` becomes `1\\.`.
    return f"{found}\\" if found.isdigit() else f"\\{found}"


@functools.singledispatch
def _block(block: Block) -> str:
    raise TypeError(f"no Markdown for {type(block).__name__}")


@_block.register
def _(block: Paragraph) -> str:
    return _prose(block.text)


@_block.register
def _(block: Heading) -> str:
    return f"{'#' * block.level} {escape(block.text)}"


@_block.register
def _(block: Bullets) -> str:
    return "\n".join(f"{f'{i}.' if block.ordered else '-'} {_prose(item)}" for i, item in enumerate(block.items, 1))


@_block.register
def _(block: Note) -> str:
    return f"> {_prose(block.text)}"


@_block.register
def _(block: Facts) -> str:
    return "\n".join(f"- **{escape(name)}:** {_cell(value)}" for name, value in block.items)


@_block.register
def _(block: Figure) -> str:
    return f"_{escape(block.alt)}_"


@_block.register
def _(block: Gallery) -> str:
    return "\n".join(f"- {escape(figure.caption)}" for figure in block.figures)


@_block.register
def _(block: Pictures) -> str:
    return "\n".join([f"_{escape(block.caption)}_", "", *(f"- {escape(card.caption)}" for card in block.cards)])


@_block.register
def _(block: Code) -> str:
    longest = max((len(run) for run in re.findall(r"`+", block.text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{block.language}\n{block.text}\n{fence}"


@_block.register
def _(block: Details) -> str:
    return "\n\n".join([f"**{escape(block.summary)}**", *map(_block, block.blocks)])


@_block.register
def _(block: Table) -> str:
    marks = ["---:" if index in block.numeric else "---" for index in range(len(block.columns))]
    lines = [_row(map(escape, block.columns)), _row(marks), *(_row(map(_cell, row)) for row in block.rows)]
    return f"**{escape(block.caption)}**\n\n" + "\n".join(lines)


def _prose(text: str) -> str:
    """Sentences of the catalogue may hold `code` between backticks; outside of those everything is escaped."""
    pieces = re.split(r"(`[^`]+`)", text)
    return "".join(piece if piece.startswith("`") and len(piece) > 2 else _escape_inner(piece) for piece in pieces)


def _escape_inner(text: str) -> str:
    """`escape` for a piece inside a line: spaces at its ends are kept."""
    if not text.strip():
        return text
    head, tail = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return (" " if head else "") + escape(text) + (" " if tail else "")


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
