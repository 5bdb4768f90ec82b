"""How figures moved from commit to commit, from a folder of baselines (`audit.comparison.read_trend`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..blocks import Block, Cell, Details, Figure, Gallery, Heading, Mono, Note, Paragraph, Section, Table
from ..figures.lines import lines_figure
from ..model import Interval, Line, Series
from ..numbers import claimed, interval, number, percent
from ..texts import Texts

if TYPE_CHECKING:
    from ...audit.comparison.trend import Trend, TrendSeries

MOST_CHARTS = 24


def trend_section(texts: Texts, trends: Sequence[Trend]) -> Section:
    """One chart and one table a finding, oldest baseline first; then how the claims moved."""
    blocks: list[Block] = [Paragraph(texts("trend.intro"))]
    for trend in trends:
        blocks.append(Heading(texts("trend.of", name=trend.name)))
        charts = [_chart(texts, trend, series) for series in trend.series if len(series.points) > 1]
        if charts:
            blocks.append(Gallery(tuple(charts[:MOST_CHARTS])))
        if len(charts) > MOST_CHARTS:
            blocks.append(Note(texts("families.series_more", shown=str(MOST_CHARTS), total=str(len(charts)))))
        table = _table(texts, trend)
        blocks.append(table if len(table.rows) <= MOST_CHARTS else Details(table.caption, (table,)))
        blocks += _claims(texts, trend)
    return Section("trend", texts("trend.title"), tuple(blocks))


def _name(series: TrendSeries) -> str:
    key = series.key
    return " · ".join(part for part in (key.trainer, key.attack or key.rule) if part)


def _chart(texts: Texts, trend: Trend, series: TrendSeries) -> Figure:
    drawn = Series(
        title=f"{trend.name}: {_name(series)}, {series.statistic}"[:200],
        x_label=texts("trend.axis"),
        y_label=series.statistic,
        lines=[
            Line(
                name=_name(series)[:200],
                x=[float(index) for index in range(len(series.points))],
                y=[point.mean for point in series.points],
                low=[point.low for point in series.points],
                high=[point.high for point in series.points],
            )
        ],
    )
    first, last = series.points[0], series.points[-1]
    alt = texts(
        "trend.alt",
        title=drawn.title,
        first=f"{number(first.mean, digits=3)} ({first.label})",
        last=f"{number(last.mean, digits=3)} ({last.label})",
    )
    caption = f"{_name(series)}: {series.statistic}"
    return Figure(lines_figure(drawn, alt, ticks=[point.label for point in series.points]), alt, caption)


def _table(texts: Texts, trend: Trend) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            f"{_name(series)}: {series.statistic}",
            Mono(point.label),
            point.created or "–",
            interval(Interval(value=point.mean, low=point.low, high=point.high)),
            str(len(point.values)),
        )
        for series in trend.series
        for point in series.points
    ]
    caption = texts("trend.caption", confidence=percent(trend.confidence))
    return Table(caption, texts.many("trend.columns"), tuple(rows), numeric=(3, 4))


def _claims(texts: Texts, trend: Trend) -> list[Block]:
    rows: list[tuple[Cell, ...]] = [
        (trainer, Mono(point.label), point.created or "–", claimed(point.epsilon), number(point.delta))
        for trainer, points in trend.claims.items()
        for point in points
    ]
    if not rows:
        return []
    return [Table(texts("trend.claims_caption"), texts.many("trend.claim_columns"), tuple(rows), numeric=(3, 4))]
