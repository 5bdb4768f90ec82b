"""Writes the comparison page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...audit.errors import ConfigError
from ..context import Context
from ..html import to_html
from ..markdown import to_markdown
from ..migrate import migrate
from ..schema import parse_audit
from ..texts import load_texts
from .page import build_comparison

if TYPE_CHECKING:
    from ...audit.comparison.trend import Trend

WRITERS = {"html": to_html, "md": to_markdown}


def render_comparison(
    audits: Sequence[Mapping[str, Any]],
    out: Path,
    formats: Sequence[str] = ("html",),
    *,
    trends: Sequence[Trend] = (),
    language: str = "en",
) -> list[Path]:
    """Write `out` in each format, with the format's suffix; returns the files.

    The same documents give the same bytes. Raises `ConfigError` for formats other than html and md, and without
    anything to compare; `StaleArtifactError` for an invalid document.
    """
    wrong = [name for name in formats if name not in WRITERS]
    if wrong:
        raise ConfigError(f"--format {wrong[0]}: several runs are compared as {' or '.join(WRITERS)}")
    if not audits and not trends:
        raise ConfigError("nothing to compare: give runs, or --trend FOLDER")
    texts = load_texts(language)
    contexts = [Context(parse_audit(migrate(audit)), texts) for audit in audits]
    report = build_comparison(contexts, texts, trends)
    out.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for name in formats:
        path = out.with_suffix(f".{name}")
        path.write_text(WRITERS[name](report), encoding="utf-8", newline="\n")
        written.append(path)
    return written
