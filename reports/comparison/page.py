"""The comparison page as a report: what is compared, findings side by side, frontier, trend, limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ... import __version__
from ..blocks import Badge, Bullets, Note, Report, Section
from ..build import LABELS
from ..context import Context
from ..model import VERDICTS
from ..texts import Texts
from .columns import columns
from .frontier import frontier_section
from .side_by_side import findings_section, runs_section
from .trend import trend_section

if TYPE_CHECKING:
    from ...audit.comparison.trend import Trend


def build_comparison(runs: Sequence[Context], texts: Texts, trends: Sequence[Trend] = ()) -> Report:
    """Runs in the order given; runs that differ only in their seed share a column. At least a run or a trend."""
    made = columns(runs)
    sections: list[Section | None] = []
    if made:
        sections += [runs_section(texts, made), findings_section(texts, made), frontier_section(texts, made)]
    if trends:
        sections.append(trend_section(texts, trends))
    sections.append(Section("limits", texts("limits.title"), (Bullets(texts.many("compare.limits")),)))
    verdict = min((run.audit.verdict for run in runs), key=VERDICTS.index, default="no-claim")
    seen = {"runs": str(len(runs)), "columns": str(len(made))}
    key = "compare.sentence" if runs else "compare.sentence_trend"
    stamps = (Note(texts("page.stamp_failed"), "warning"),) if any(r.audit.status == "failed" for r in runs) else ()
    return Report(
        language=texts.language,
        title=texts("compare.title"),
        subtitle=texts("compare.subtitle"),
        verdict=Badge(verdict, texts(f"verdict.{verdict}.label" if runs else "trend.title")),
        sentence=texts(key, **seen, verdict=texts(f"verdict.{verdict}.label")),
        figures=(),
        stamps=stamps,
        sections=tuple(section for section in sections if section is not None),
        labels={key: texts.sentences[f"page.{key}"] for key in LABELS},
        footer=texts("page.footer", version=__version__),
    )
