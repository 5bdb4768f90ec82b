"""Draws the report as one self-contained HTML file: no network, no script, no external font."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from .blocks import Block, Cell, Figure, Report

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")
SYMBOLS = {
    "violated": "✕",
    "exceeds-policy": "▲",
    "error": "!",
    "underpowered": "?",
    "no-claim": "–",
    "consistent": "✓",
}


def to_html(report: Report) -> str:
    """The page. All text is escaped; only our own SVG is markup."""
    return _environment().get_template("report.html.j2").render(report=report, symbols=SYMBOLS)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["kind"] = _kind
    environment.filters["svg"] = _svg
    environment.filters["prose"] = _prose
    environment.filters["whole"] = _whole
    return environment


def _kind(block: Block | Cell) -> str:
    return "str" if isinstance(block, str) else type(block).__name__.lower()


def _svg(figure: Figure) -> Markup:
    # The chart escapes its own text (figures/style.py); it is the only markup that does not come from a template.
    return Markup(figure.svg)


def _whole(text: str) -> str:
    """An interval in brackets stays on one line."""
    return re.sub(r"\[(\S+), (\S+)\]", "[\\1,\u00a0\\2]", text)


def _prose(text: str) -> Markup:
    """Sentences may hold `code` between backticks; everything is escaped."""
    pieces = re.split(r"`([^`]+)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if index % 2 else escape(piece) for index, piece in enumerate(pieces)
    )
