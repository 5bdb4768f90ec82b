"""One panel a data set, one line of dots an attack, one colour a way of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..peers.attacks import Mean
from .tables import leaderboard_order

COLOURS = ("#1f4e79", "#6b9ac4", "#b35806", "#e08214", "#fdb863")
LABELS = {"auc": "AUC", "tpr_at_0.01": "TPR at 1 % FPR"}
FLOOR = {"auc": 0.4, "tpr_at_0.01": 0.0}
CHANCE = {"auc": 0.5, "tpr_at_0.01": 0.01}


def plot(cells: Sequence[dict[str, Any]], measure: str, path: Path) -> None:
    """Means over targets with 95 % intervals as an svg; the dashed line is guessing."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    datasets = list(dict.fromkeys(cell["dataset"] for cell in cells))
    trainers = list(dict.fromkeys(cell["trainer"] for cell in cells))
    attacks = leaderboard_order(cells)
    figure = Figure(figsize=(3 + 2.4 * len(datasets), 1.2 + 0.32 * len(attacks)), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(1, len(datasets), sharey=True, squeeze=False)[0]
    for panel, dataset in zip(axes, datasets, strict=True):
        panel.axvline(CHANCE[measure], color="0.5", linestyle="--", linewidth=0.8)
        for index, trainer in enumerate(trainers):
            rows = [r for c in cells if (c["dataset"], c["trainer"]) == (dataset, trainer) for r in c["rows"]]
            _dots(panel, rows, attacks, measure, index, len(trainers), trainer)
        # Student's limits over few targets reach beyond what a rate can be.
        low, high = panel.get_xlim()
        panel.set_xlim(max(low, FLOOR[measure]), min(high, 1.02))
        panel.set_title(dataset)
        panel.set_xlabel(LABELS[measure])
        panel.set_yticks(range(len(attacks)), attacks)
        panel.set_ylim(len(attacks) - 0.5, -0.5)
        panel.grid(axis="x", linewidth=0.3)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(trainers), frameon=False)
    # No date, no version: the same figures give the same file.
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def _dots(
    panel: Any, rows: Sequence[dict[str, Any]], attacks: Sequence[str], measure: str, index: int, of: int, trainer: str
) -> None:
    good = [r for r in rows if not r["error"] and None not in r[measure]]
    if not good:
        return
    means = [Mean.of(np.array(r[measure], dtype=np.float64)) for r in good]
    offset = (index - (of - 1) / 2) * 0.6 / max(of, 1)
    panel.errorbar(
        [m.value for m in means],
        [attacks.index(r["attack"]) + offset for r in good],
        xerr=[m.high - m.value for m in means],
        fmt="o",
        markersize=3,
        linewidth=0.8,
        color=COLOURS[index % len(COLOURS)],
        label=trainer,
    )
