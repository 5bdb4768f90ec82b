"""From an audit to the report's tree of blocks, in one language."""

from __future__ import annotations

from .blocks import Note, Report
from .context import Context
from .headline import key_figures, sentence
from .model import Audit
from .sections import SECTIONS
from .texts import load_texts

LABELS = ("contents", "skip", "verdict", "figure", "scroll")


def build_report(audit: Audit, *, language: str = "en", reveal: bool = False) -> Report:
    """Every section in reading order. `reveal` shows evidence that may be personal and stamps the report."""
    texts = load_texts(language)
    context = Context(audit, texts, reveal)
    stamps: list[Note] = []
    if reveal:
        stamps.append(Note(texts("page.stamp_reveal"), "warning"))
    if audit.status == "failed":
        stamps.append(Note(texts("page.stamp_failed"), "warning"))
    sections = [section for build in SECTIONS if (section := build(context))]
    return Report(
        language=language,
        title=texts("page.title", name=audit.name),
        subtitle=texts("page.subtitle"),
        verdict=context.badge(audit.verdict),
        sentence=sentence(context),
        figures=key_figures(context),
        stamps=tuple(stamps),
        sections=tuple(sections),
        labels={key: texts.sentences[f"page.{key}"] for key in LABELS},
        footer=texts("page.footer", version=audit.system.leakgauge),
    )
