"""A line chart with bands: one series of a finding, or a trend over commits."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from ..model import Line, Series
from ..numbers import number
from .style import CARD, CEILING, CERTIFIED, CLAIMED, INK, MUTED, chart_settings, new_figure, to_svg

COLOURS = (CERTIFIED, CLAIMED, CEILING, INK)
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1, 1.3)), (0, (5, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MOST_MARKED = 24
MOST_TICK_LABELS = 12


def lines_figure(series: Series, alt: str, *, ticks: list[str] | None = None) -> str:
    """SVG of a series. Lines differ in colour, dash and marker, so that no reader depends on colour alone.

    `ticks` names the positions 0, 1, 2, ... of the horizontal axis.
    """
    with chart_settings():
        figure = new_figure(3.6, 3.0)
        axes = figure.add_subplot()
        axes.set_xscale(series.x_scale)
        axes.set_yscale(series.y_scale)
        for index, line in enumerate(series.lines):
            _draw(axes, line, index)
        axes.set_xlabel(series.x_label)
        axes.set_ylabel(series.y_label)
        axes.minorticks_off()
        _plain_logarithms(axes, series)
        if ticks is not None:
            _name_ticks(axes, ticks)
        if len(series.lines) > 1:
            figure.legend(loc="outside upper left", ncols=2, labelcolor=INK, handlelength=2.4, columnspacing=1.2)
        return to_svg(figure, f"lines-{_digest(series)}", alt)


def described(series: Series) -> str:
    """The lines in words: name, and first and last value."""
    parts = []
    for line in series.lines:
        points = [(x, y) for x, y in zip(line.x, line.y, strict=True) if y is not None]
        if points:
            first, last = points[0], points[-1]
            spoken = [f"{number(y, digits=3)} ({series.x_label} {number(x, digits=3)})" for x, y in (first, last)]
            parts.append(f"{line.name}: {' – '.join(dict.fromkeys(spoken))}")
    return "; ".join(parts)


def _draw(axes: Any, line: Line, index: int) -> None:
    colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
    marker = MARKERS[index % len(MARKERS)] if len(line.x) <= MOST_MARKED else None
    values = [math.nan if y is None else y for y in line.y]
    if line.low:
        low, high = ([math.nan if v is None else v for v in part] for part in (line.low, line.high))
        axes.fill_between(line.x, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(
        line.x,
        values,
        color=colour,
        linestyle=dash,
        linewidth=1.8,
        marker=marker,
        markersize=5.5,
        markeredgecolor=CARD,
        label=line.name,
    )


def _plain_logarithms(axes: Any, series: Series) -> None:
    for scale, axis in ((series.x_scale, axes.xaxis), (series.y_scale, axes.yaxis)):
        if scale == "log":
            axis.set_major_formatter(lambda value, _: number(float(value), digits=3))
            if axis is axes.xaxis and len({x for line in series.lines for x in line.x}) <= MOST_TICK_LABELS // 2:
                positions = sorted({x for line in series.lines for x in line.x})
                axis.set_ticks(positions, labels=[number(float(x), digits=3) for x in positions])


def _name_ticks(axes: Any, names: list[str]) -> None:
    step = max(1, math.ceil(len(names) / MOST_TICK_LABELS))
    shown = range(0, len(names), step)
    axes.set_xticks(list(shown), [names[index] for index in shown], rotation=35, ha="right", color=INK)
    axes.tick_params(axis="x", colors=MUTED, labelcolor=INK)


def _digest(series: Series) -> str:
    return hashlib.sha256(series.model_dump_json().encode()).hexdigest()[:10]
