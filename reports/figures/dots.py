"""Rows of dots with whiskers: one quantity for several columns, row by row."""

from __future__ import annotations

from dataclasses import dataclass

from ..model import Interval
from .lines import COLOURS, MARKERS
from .style import CARD, INK, MUTED, chart_settings, new_figure, to_svg

LONGEST_LABEL = 40
GUESSING = 0.5


@dataclass(frozen=True, slots=True)
class Dot:
    """One value: `row` names its line, `column` its marker."""

    row: str
    column: str
    value: Interval


def dots_figure(dots: list[Dot], quantity: str, alt: str) -> str:
    """SVG with a line of dots a row; a dashed line marks guessing (0.5)."""
    from matplotlib.lines import Line2D

    rows, columns = list(dict.fromkeys(d.row for d in dots)), list(dict.fromkeys(d.column for d in dots))
    with chart_settings():
        figure = new_figure(3.9, 0.9 + 0.14 * len(columns) + len(rows) * (0.3 + 0.13 * len(columns)))
        axes = figure.add_subplot()
        axes.axvline(GUESSING, color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)))
        for dot in dots:
            index = columns.index(dot.column)
            place = rows.index(dot.row) + 0.62 * ((index + 0.5) / len(columns) - 0.5) + 0.12
            colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            value = dot.value.value or 0.0
            if dot.value.low is not None and dot.value.high is not None:
                axes.plot([dot.value.low, dot.value.high], [place, place], color=colour, linewidth=1.4)
            axes.plot([value], [place], marker=marker, markersize=6, color=colour, markeredgecolor=CARD)
        for position, row in enumerate(rows):
            label = row if len(row) <= LONGEST_LABEL else row[: LONGEST_LABEL - 1] + "…"
            axes.text(
                *(0, position - 0.28, label),
                transform=axes.get_yaxis_transform(),
                fontsize=8.5,
                va="bottom",
                bbox={"facecolor": CARD, "edgecolor": "none", "pad": 1},
            )
        axes.set_ylim(len(rows) - 0.4, -0.75)
        axes.set_yticks([])
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(quantity)
        handles = [
            Line2D([], [], color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], linestyle="", label=name)
            for i, name in enumerate(columns)
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=1, labelcolor=INK, handlelength=1.4)
        return to_svg(figure, "dots", alt)
