"""Epsilon as bullet bars: how much could have been shown, how much was, and what was claimed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..numbers import claimed, shown
from .style import CARD, CEILING, CERTIFIED, CLAIMED, INK, chart_settings, new_figure, to_svg

LONGEST_LABEL = 46
FARTHEST_CLAIM = 3.0
"""A claim beyond this multiple of the largest ceiling is drawn as an arrow at the edge: the bars stay readable."""


@dataclass(frozen=True, slots=True)
class EpsilonRow:
    """One bar: claimed epsilon at the tested delta, certified lower bound, and ceiling of the design."""

    label: str
    claimed: float | None
    certified: float | None
    ceiling: float | None

    def described(self) -> dict[str, str]:
        """The row in words, for the text alternative."""
        return {
            "label": self.label,
            "claimed": claimed(self.claimed),
            "certified": shown(self.certified),
            "ceiling": shown(self.ceiling),
        }


def epsilon_figure(rows: list[EpsilonRow], words: dict[str, str], alt: str) -> str:
    """SVG with one bar a row. `words` names `claimed`, `certified` and `ceiling` in the legend."""
    with chart_settings():
        figure = new_figure(3.9, 0.95 + 0.5 * len(rows))
        axes = figure.add_subplot()
        right = _right_edge(rows)
        for position, row in enumerate(rows):
            _draw(axes, position, row, right)
        axes.set_xlim(0, right)
        axes.set_ylim(len(rows) - 0.35, -0.8)
        axes.set_yticks([])
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("epsilon")
        _legend(figure, words)
        return to_svg(figure, "epsilon", alt)


def _right_edge(rows: list[EpsilonRow]) -> float:
    showable = [value for row in rows for value in (row.certified, row.ceiling) if value is not None]
    claims = [row.claimed for row in rows if row.claimed is not None]
    largest = max(showable, default=0.0) or max(claims, default=1.0)
    within = [claim for claim in claims if claim <= FARTHEST_CLAIM * largest]
    return 1.08 * max([largest, *within, 0.1])


def _draw(axes: Any, position: int, row: EpsilonRow, right: float) -> None:
    label = row.label if len(row.label) <= LONGEST_LABEL else row.label[: LONGEST_LABEL - 1] + "…"
    axes.text(0, position - 0.3, label, fontsize=8.5, va="bottom", ha="left")
    if row.ceiling is not None:
        axes.barh(position, row.ceiling, height=0.42, color="none", edgecolor=CEILING, linewidth=1.1, hatch="////")
    if row.certified is not None:
        axes.barh(position, row.certified, height=0.42, color=CERTIFIED)
        axes.plot([row.certified] * 2, [position - 0.21, position + 0.21], color=CERTIFIED, linewidth=2.2)
    if row.claimed is None:
        return
    if row.claimed > right:
        axes.annotate(
            f"{claimed(row.claimed)} →", (right, position), ha="right", va="center", color=CLAIMED, fontweight="bold"
        )
        return
    axes.plot([row.claimed] * 2, [position - 0.3, position + 0.3], color=CARD, linewidth=4.5)
    axes.plot([row.claimed] * 2, [position - 0.3, position + 0.3], color=CLAIMED, linewidth=2.2)
    axes.plot([row.claimed], [position], marker="D", markersize=5, color=CLAIMED, markeredgecolor=CARD)


def _legend(figure: Any, words: dict[str, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=CERTIFIED, label=words["certified"]),
        Line2D([], [], color=CLAIMED, marker="D", markersize=5, linewidth=2.2, label=words["claimed"]),
        Patch(facecolor="none", edgecolor=CEILING, hatch="////", label=words["ceiling"]),
    ]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=3, handlelength=1.6, columnspacing=1.2, labelcolor=INK
    )
