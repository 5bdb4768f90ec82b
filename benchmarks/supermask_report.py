"""Tables and plot of `bench supermask-table`: means over seeds with Student's intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audit.comparison.holm import Decision, holm
from .peers.attacks import Mean
from .peers.tables import markdown_table
from .supermask_roster import Entry

EQUAL, ALPHA = 0.02, 0.05
"""Accuracies whose means differ by no more are called equal; family-wise error of what is read."""
Cells = Sequence[dict[str, Any]]
COLUMNS = (
    *("trained", "shares", "setting", "test accuracy", "RMIA AUC", "TPR at 1 % FPR", "certified, records"),
    *("certified, canaries", "claim", "bits a parameter", "shared"),
)
PAIRS = ("mask against weights", "accuracy", "AUC", "TPR at 1 % FPR", "bytes shared", "reads")


def markdown(entries: Sequence[Entry], cells: Cells, label_noise: float) -> str:
    """Both tables with what their figures are."""
    seeds = len({cell["seed"] for cell in cells})
    head = (
        f"Digits, {100 * label_noise:g} % of the labels wrong; accuracy on records with the right label. Means over "
        f"{seeds} seeds (split, coins, shadows, model) with Student's 95 % interval; certified is the mean of the "
        "one-run bounds at 0.95, and the largest.\n"
    )
    rows = [_row(entry, _of(entry.name, cells)) for entry in entries]
    compared = [e for e in entries if e.against and _of(e.against, cells)]
    read = readings([Pair.of(e, cells) for e in compared])
    pairs = [_pair(e, cells, text) for e, text in zip(compared, read, strict=True)]
    return "\n".join(
        [
            head,
            markdown_table(COLUMNS, rows),
            f"Differences on the same seeds, mask less weights; accuracies within {EQUAL:g} are called equal. "
            "Intervals are of one difference each; what is read of the AUCs is corrected for all pairs at equal "
            "accuracy (Holm).\n",
            markdown_table(PAIRS, pairs),
        ]
    )


def values(cells: Cells, key: str) -> NDArray[np.float64]:
    """A figure on every seed (seeds,); empty where it is not measured."""
    return np.array([cell[key] for cell in cells if cell[key] is not None], dtype=np.float64)


def shared_bytes(cells: Cells) -> float:
    """Mean bytes of all uploads, or of the released model where nothing is uploaded."""
    sent = values(cells, "upload_bytes")
    return float((sent if len(sent) else values(cells, "released_bytes")).mean())


def differences(mask: Cells, weights: Cells, key: str) -> Mean:
    """The mean over seeds of mask less weights, with Student's interval."""
    other = {cell["seed"]: cell[key] for cell in weights}
    return Mean.of(np.array([cell[key] - other[cell["seed"]] for cell in mask], dtype=np.float64))


@dataclass(frozen=True, slots=True)
class Pair:
    """A mask against weights: mean differences of accuracy and AUC, and the p-value of equal AUCs (paired t-test)."""

    accuracy: float
    auc: float
    p_value: float

    @classmethod
    def of(cls, entry: Entry, cells: Cells) -> Pair:
        """The pair of an entry and the one it stands against, on the seeds that both have."""
        from scipy import stats

        mask, weights = _of(entry.name, cells), _of(entry.against or "", cells)
        other = {cell["seed"]: cell["auc"] for cell in weights}
        test = stats.ttest_rel([cell["auc"] for cell in mask], [other[cell["seed"]] for cell in mask])
        accuracy, auc = (differences(mask, weights, key).value for key in ("accuracy", "auc"))
        return cls(accuracy, auc, float(test.pvalue))


def readings(pairs: Sequence[Pair]) -> list[str]:
    """What each pair says about leakage, in words; family-wise error 5 % over those at equal accuracy."""
    equal = [pair for pair in pairs if abs(pair.accuracy) <= EQUAL]
    decided = iter(holm([pair.p_value for pair in equal], ALPHA))
    return [_read(pair, next(decided)) if abs(pair.accuracy) <= EQUAL else "accuracies differ" for pair in pairs]


def _read(pair: Pair, decision: Decision) -> str:
    if not decision.rejected:
        return f"no difference shown (p {decision.adjusted:.2g})"
    return f"the mask leaks {'more' if pair.auc > 0 else 'less'} (p {decision.adjusted:.2g})"


def _of(name: str, cells: Cells) -> list[dict[str, Any]]:
    return [cell for cell in cells if cell["entry"] == name]


def _row(entry: Entry, cells: Cells) -> list[str]:
    claim = values(cells, "claim")
    unit = cells[0]["unit"]
    return [
        entry.name,
        entry.shares,
        cells[0]["setting"],
        *(_interval(Mean.of(values(cells, key))) for key in ("accuracy", "auc", "tpr")),
        _certified(values(cells, "certified")),
        _certified(values(cells, "canaries")),
        f"{claim.mean():.2f} a {unit}" if len(claim) else "-",
        _bits(values(cells, "bits_per_parameter")),
        _size(shared_bytes(cells)),
    ]


def _pair(entry: Entry, cells: Cells, read: str) -> list[str]:
    assert entry.against is not None
    mask, weights = _of(entry.name, cells), _of(entry.against, cells)
    found = {key: differences(mask, weights, key) for key in ("accuracy", "auc", "tpr")}
    ratio = shared_bytes(mask) / shared_bytes(weights)
    return [
        f"{entry.name} - {entry.against}",
        *(f"{m.value:+.3f} [{m.low:+.3f}, {m.high:+.3f}]" for m in found.values()),
        f"{ratio:.3f} times",
        read,
    ]


def _interval(mean: Mean) -> str:
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def _certified(found: NDArray[np.float64]) -> str:
    return f"{found.mean():.2f}, {found.max():.2f}" if len(found) else "-"


def _bits(found: NDArray[np.float64]) -> str:
    return f"{found.mean():.3g}" if len(found) else "-"


def _size(count: float) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def plot(entries: Sequence[Entry], cells: Cells, path: Path) -> None:
    """Accuracy against AUC with intervals both ways, a panel a family; circles share weights, squares masks."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    families = list(dict.fromkeys(entry.family for entry in entries))
    figure = Figure(figsize=(3.2 * len(families), 4.0), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(1, len(families), squeeze=False)[0]
    for panel, family in zip(axes, families, strict=True):
        panel.axvline(0.5, color="0.5", linestyle="--", linewidth=0.8)
        for entry in (e for e in entries if e.family == family):
            _dot(panel, entry, _of(entry.name, cells))
        panel.set_title(family)
        panel.set_xlabel("RMIA AUC")
        panel.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.18))
        panel.grid(linewidth=0.3)
    axes[0].set_ylabel("test accuracy")
    # No date, no version: the same figures give the same file.
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def _dot(panel: Any, entry: Entry, cells: Cells) -> None:
    leak, good = Mean.of(values(cells, "auc")), Mean.of(values(cells, "accuracy"))
    panel.errorbar(
        [leak.value],
        [good.value],
        xerr=leak.high - leak.value,
        yerr=good.high - good.value,
        fmt="o" if entry.shares == "weights" else "s",
        markersize=5,
        linewidth=0.9,
        label=f"{entry.name} ({_size(shared_bytes(cells))})",
    )
