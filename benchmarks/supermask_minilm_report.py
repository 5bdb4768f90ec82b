"""The table of `bench supermask-minilm`: means over seeds with intervals, differences by seed, and what must hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

HEAD, FINE_TUNED, MASK = "head alone", "fine-tuned", "mask"
BELOW_FINE_TUNED, ABOVE_HEAD, BELOW_CENTRAL = 0.03, 0.02, 0.05
"""How far a mask may be below fine-tuning, must be above the head alone, and a federated one below training in one
place: shares of the test sentences."""

Row = Mapping[str, Any]


def report(rows: Sequence[Row]) -> str:
    """Markdown of the cells `rows` (see `supermask_minilm.Cell`)."""
    ways = list(dict.fromkeys(row["way"] for row in rows))
    lines = [
        "| training | seeds | test accuracy | minus fine-tuned | minus head alone | train accuracy | loss attack, AUC "
        "| TPR at 1 % FPR | model, bytes | upload a client and round, bytes | uploads in all, bytes | kept | seconds |",
        "|---|---:|---|---|---|---:|---|---:|---:|---:|---:|---:|---:|",
        *(_line(rows, way) for way in ways),
        "",
        *(f"* {'yes' if met else 'NO'}: {text}" for text, met in checks(rows).items()),
    ]
    return "\n".join(lines) + "\n"


def checks(rows: Sequence[Row]) -> dict[str, bool]:
    """Every requirement in words, and whether it is met; those whose trainers were not run are left out.

    Requirements are on means over seeds: both sides of a difference are trained on the same sentences.
    """
    accuracy = {way: float(column(rows, way, "right", "tested").mean()) for way in {row["way"] for row in rows}}
    out: dict[str, bool] = {}
    for way, other, least in _requirements(accuracy):
        difference = accuracy[way] - accuracy[other]
        text = f"{way} minus {other}: {100 * difference:+.1f} points (at least {100 * least:+.0f})"
        out[text] = difference >= least
    return out


def _requirements(accuracy: Mapping[str, float]) -> list[tuple[str, str, float]]:
    needed = [(MASK, FINE_TUNED, -BELOW_FINE_TUNED), (MASK, HEAD, ABOVE_HEAD)]
    for way in sorted(accuracy):
        if way.startswith("federated"):
            needed += [(way, MASK, -BELOW_CENTRAL), (way, FINE_TUNED, -BELOW_CENTRAL)]
    return [n for n in needed if n[0] in accuracy and n[1] in accuracy]


def column(rows: Sequence[Row], way: str, key: str, total: str | None = None) -> NDArray[np.float64]:
    """Values (seeds,) of one way by seed, as shares of `total` where given."""
    own = sorted((row for row in rows if row["way"] == way), key=lambda row: int(row["seed"]))
    return np.array([row[key] / (row[total] if total else 1) for row in own], np.float64)


def mean_interval(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student's t interval of `values` (seeds,); the ends are NaN for fewer than two."""
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return mean, float("nan"), float("nan")
    reach = float(student.ppf(0.5 + confidence / 2, count - 1)) * float(values.std(ddof=1)) / count**0.5
    return mean, mean - reach, mean + reach


def _line(rows: Sequence[Row], way: str) -> str:
    first = next(row for row in rows if row["way"] == way)
    share = column(rows, way, "right", "tested")
    kept = "-" if first["kept"] is None else f"{column(rows, way, 'kept').mean():.3f}"
    sent = [f"{first[key]:,.0f}" if first[key] else "-" for key in ("upload_bytes", "total_upload_bytes")]
    cells = [
        way,
        str(len(share)),
        _interval(share),
        *(_difference(rows, way, other) for other in (FINE_TUNED, HEAD)),
        f"{column(rows, way, 'train_accuracy').mean():.3f}",
        _interval(column(rows, way, "auc")),
        f"{column(rows, way, 'true_positives', 'audited').mean():.3f}",
        f"{first['model_bytes']:,}",
        *sent,
        kept,
        f"{column(rows, way, 'seconds').mean():.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _difference(rows: Sequence[Row], way: str, other: str) -> str:
    """Of accuracies, seed by seed."""
    own, theirs = column(rows, way, "right", "tested"), column(rows, other, "right", "tested")
    if way == other or len(own) != len(theirs):
        return "-"
    return _interval(own - theirs, signed=True)


def _interval(values: NDArray[np.float64], *, signed: bool = False) -> str:
    mean, low, high = mean_interval(values)
    style = "+.3f" if signed else ".3f"
    return f"{mean:{style}}" if np.isnan(low) else f"{mean:{style}} [{low:{style}}, {high:{style}}]"
