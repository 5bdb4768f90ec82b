"""Utility against leakage: one point a model, with intervals both ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..model import Interval
from .style import CARD, CERTIFIED, CLAIMED, INK, MUTED, chart_settings, new_figure, to_svg

MOST_NAMED = 4
"""With more points than this, names beside them would overlap and go into a legend."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """A model: AUC of its strongest attack, and its test accuracy. `best` says that no other model beats it in both."""

    name: str
    leakage: Interval
    accuracy: Interval
    best: bool | None = None


def frontier_figure(points: list[FrontierPoint], words: dict[str, str], alt: str) -> str:
    """SVG with leakage to the right and accuracy upwards: up and to the left is better. `words` names the axes."""
    with chart_settings():
        figure = new_figure(3.9, 3.0 + (0.17 * len(points) if len(points) > MOST_NAMED else 0))
        axes = figure.add_subplot()
        axes.margins(0.2)
        axes.axvline(0.5, color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)))
        _line(axes, points)
        for index, point in enumerate(points):
            _draw(axes, point, MARKERS[index % len(MARKERS)], named=len(points) <= MOST_NAMED)
        if len(points) > MOST_NAMED:
            _legend(figure, points)
        axes.set_xlim(right=min(axes.get_xlim()[1], 1.02))
        axes.set_xlabel(words["leakage"])
        axes.set_ylabel(words["accuracy"])
        return to_svg(figure, "frontier", alt)


def _line(axes: Any, points: list[FrontierPoint]) -> None:
    """A staircase through the models that nothing beats."""
    best = sorted((p.leakage.value or 0.0, p.accuracy.value or 0.0) for p in points if p.best)
    if len(best) > 1:
        axes.plot(
            *zip(*best, strict=True), color=CLAIMED, linewidth=1.3, drawstyle="steps-post", linestyle=(0, (1, 1.4))
        )


def _draw(axes: Any, point: FrontierPoint, marker: str, *, named: bool) -> None:
    x, y = point.leakage.value or 0.0, point.accuracy.value or 0.0
    axes.errorbar(
        [x],
        [y],
        xerr=_error(point.leakage, x),
        yerr=_error(point.accuracy, y),
        color=_colour(point),
        marker=marker,
        markersize=8,
        markeredgecolor=CARD,
        elinewidth=1.2,
        capsize=2.5,
    )
    if named:
        axes.annotate(point.name, (x, y), xytext=(7, 6), textcoords="offset points", fontsize=9)


def _legend(figure: Any, points: list[FrontierPoint]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            *([], []),
            color=_colour(point),
            marker=MARKERS[index % len(MARKERS)],
            markeredgecolor=CARD,
            linestyle="",
            label=point.name,
        )
        for index, point in enumerate(points)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=1, labelcolor=INK, handlelength=1.4)


def _colour(point: FrontierPoint) -> str:
    return MUTED if point.best is False else CERTIFIED


def _error(interval: Interval, value: float) -> list[list[float]] | None:
    if interval.low is None or interval.high is None:
        return None
    return [[max(value - interval.low, 0.0)], [max(interval.high - value, 0.0)]]
