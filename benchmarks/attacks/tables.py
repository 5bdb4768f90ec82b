"""The leaderboard and the tables behind it, as markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..peers.attacks import Mean
from ..peers.tables import markdown_table

Cell = dict[str, Any]
TPR = "tpr_at_0.01"


def markdown(cells: Sequence[Cell], shadows: int, targets: int, skipped: dict[str, str]) -> str:
    """Everything: the leaderboard, the models, then a table a data set."""
    parts = [
        f"{targets} targets by independent coins and {shadows} shadows in complementary pairs a cell.",
        "",
        "## Leaderboard",
        "",
        "AUC / TPR at 1 % FPR in percent, mean over data sets; sorted by the TPR without protection.",
        "",
        leaderboard(cells),
        "## Models",
        "",
        models(cells),
    ]
    for dataset in dict.fromkeys(cell["dataset"] for cell in cells):
        chosen = [cell for cell in cells if cell["dataset"] == dataset]
        parts += [f"## {dataset}", "", "AUC, then TPR at 1 % FPR, means over targets with Student's 95 % interval.", ""]
        parts += [by_trainer(chosen)]
    parts += ["Not played: " + "; ".join(f"`{name}` {why}" for name, why in skipped.items()) + ".\n"] if skipped else []
    return "\n".join(parts)


def leaderboard(cells: Sequence[Cell]) -> str:
    """A row an attack, a column a way of training; an attack that failed in some cell shows how many it played."""
    trainers = list(dict.fromkeys(cell["trainer"] for cell in cells))
    rows = []
    for attack, needs in _attacks(cells).items():
        rows.append([attack, needs, *(_pair(cells, attack, trainer) for trainer in trainers)])
    return markdown_table(["attack", "needs", *trainers], rows)


def models(cells: Sequence[Cell]) -> str:
    """Accuracy, claimed epsilon and the best attack of every cell."""
    rows = []
    for cell in cells:
        rest = [row for row in cell["rows"] if not row["error"]]
        best = max(rest, key=lambda row: _mean(row[TPR])) if rest else None
        rows.append(
            [
                cell["dataset"],
                cell["trainer"],
                f"{cell['train_accuracy']:.3f}",
                f"{cell['test_accuracy']:.3f}",
                "-" if cell["claimed_epsilon"] is None else f"{cell['claimed_epsilon']:.2f}",
                "-" if best is None else f"{best['attack']} ({_both(_mean(best['auc']), _mean(best[TPR]))})",
                f"{cell['training_seconds']:.0f}",
            ]
        )
    columns = [
        "data",
        "training",
        "train accuracy",
        "test accuracy",
        "claimed epsilon",
        "best attack by TPR",
        "train s",
    ]
    return markdown_table(columns, rows)


def by_trainer(cells: Sequence[Cell]) -> str:
    """One data set: a row an attack, with intervals."""
    rows = []
    for attack in _attacks(cells):
        found = [next((r for r in cell["rows"] if r["attack"] == attack), None) for cell in cells]
        rows.append([attack, *(_interval(row) for row in found)])
    return markdown_table(["attack", *(cell["trainer"] for cell in cells)], rows)


def _attacks(cells: Sequence[Cell]) -> dict[str, str]:
    """Attacks with their needs, best first by TPR on the first way of training."""
    needs = {row["attack"]: row["needs"] for cell in cells for row in cell["rows"]}
    first = cells[0]["trainer"]

    def rank(attack: str) -> tuple[float, float]:
        rows = _rows(cells, attack, first)
        if not rows:
            return 1.0, 1.0
        return -float(np.mean([_mean(r[TPR]) for r in rows])), -float(np.mean([_mean(r["auc"]) for r in rows]))

    return {attack: needs[attack] for attack in sorted(needs, key=rank)}


def leaderboard_order(cells: Sequence[Cell]) -> list[str]:
    """The attacks in the order of the leaderboard."""
    return list(_attacks(cells))


def _rows(cells: Sequence[Cell], attack: str, trainer: str) -> list[Cell]:
    return [
        row
        for cell in cells
        if cell["trainer"] == trainer
        for row in cell["rows"]
        if row["attack"] == attack and not row["error"]
    ]


def _pair(cells: Sequence[Cell], attack: str, trainer: str) -> str:
    rows = _rows(cells, attack, trainer)
    of = sum(cell["trainer"] == trainer for cell in cells)
    if not rows:
        return "-"
    text = _both(float(np.mean([_mean(r["auc"]) for r in rows])), float(np.mean([_mean(r[TPR]) for r in rows])))
    return text if len(rows) == of else f"{text} ({len(rows)} of {of})"


def _both(auc: float, tpr: float) -> str:
    return f"{auc:.3f} / {100 * tpr:.1f}"


def _interval(row: Cell | None) -> str:
    if row is None:
        return "-"
    if row["error"]:
        return "error"
    auc, tpr = (Mean.of(np.array(row[m], dtype=np.float64)) for m in ("auc", TPR))
    return f"{auc.value:.3f} ± {auc.high - auc.value:.3f}, {100 * tpr.value:.1f} ± {100 * (tpr.high - tpr.value):.1f} %"


def _mean(values: Sequence[float | None]) -> float:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else 0.0
