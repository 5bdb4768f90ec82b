"""From an audit to the report's tree of blocks, in one language."""

from __future__ import annotations

from .blocks import Note, Report
from .context import Context
from .headline import key_figures, sentence
from .sections import SECTIONS

LABELS = ("contents", "skip", "verdict", "figure", "scroll")


def build_report(context: Context) -> Report:
    """Every section in reading order, stamped when evidence is revealed or the run failed."""
    audit, texts = context.audit, context.texts
    stamps: list[Note] = []
    if context.reveal:
        stamps.append(Note(texts("page.stamp_reveal"), "warning"))
    if audit.status == "failed":
        stamps.append(Note(texts("page.stamp_failed"), "warning"))
    sections = [section for build in SECTIONS for section in build(context)]
    return Report(
        language=texts.language,
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
