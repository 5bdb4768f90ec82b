"""Several quantities of the same models side by side: one row a model, one panel a quantity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..model import Interval
from .dots import LONGEST_LABEL
from .lines import MARKERS
from .style import CARD, CERTIFIED, MUTED, chart_settings, new_figure, to_svg


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity: `values` has one entry a model, None where it has none. `guess` draws a dashed line;
    `labels` are written beside the dots."""

    title: str
    values: Sequence[Interval | None]
    guess: float | None = None
    logarithmic: bool = False
    labels: Sequence[str] = ()


def panels_figure(names: Sequence[str], panels: Sequence[Panel], alt: str) -> str:
    """SVG with the panels next to each other and the models below each other, in the order given."""
    with chart_settings():
        figure = new_figure(3.9, 0.75 + 0.42 * len(names))
        drawn = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for panel, axes in zip(panels, drawn, strict=True):
            _draw(axes, panel, len(names))
        behind = {"facecolor": CARD, "edgecolor": "none", "pad": 1}
        for position, name in enumerate(names):
            label = name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"
            drawn[0].text(
                *(0, position - 0.26, label),
                transform=drawn[0].get_yaxis_transform(),
                fontsize=8.5,
                va="bottom",
                bbox=behind,
            )
        return to_svg(figure, "panels", alt)


def _draw(axes: Any, panel: Panel, rows: int) -> None:
    if panel.logarithmic:
        axes.set_xscale("log")
    if panel.guess is not None:
        axes.axvline(panel.guess, color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)))
    for place, value in enumerate(panel.values):
        if value is not None and value.value is not None:
            _dot(axes, value, place, panel.labels[place] if panel.labels else "")
    axes.margins(x=0.18)
    axes.set_ylim(rows - 0.6, -0.75)
    axes.set_yticks([])
    axes.minorticks_off()
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=3) if not panel.logarithmic else axes.set_xticks([])
    axes.set_xlabel(panel.title, fontsize=8)
    axes.tick_params(labelsize=8)


def _dot(axes: Any, value: Interval, place: int, label: str) -> None:
    if value.low is not None and value.high is not None:
        axes.plot([value.low, value.high], [place, place], color=CERTIFIED, linewidth=1.6)
    axes.plot(
        [value.value],
        [place],
        marker=MARKERS[place % len(MARKERS)],
        markersize=6,
        color=CERTIFIED,
        markeredgecolor=CARD,
    )
    if label:
        axes.annotate(
            label, (value.value, place), xytext=(0, -9), textcoords="offset points", fontsize=7.5, ha="center"
        )
