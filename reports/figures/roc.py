"""Log-log ROC of one attack with its confidence band, chance, and the region that the claim forbids."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model import Finding, Roc, TestedClaim
from ..numbers import number
from .style import CERTIFIED, CLAIMED, FORBIDDEN, INK, MUTED, chart_settings, new_figure, to_svg

MOST_POINTS = 240
LOWEST_RATE = 1e-5
MARGINS = {"left": 0.19, "right": 0.98, "bottom": 0.14, "top": 0.98}


def roc_figure(finding: Finding, words: dict[str, str], alt: str) -> str:
    """SVG of the finding's curve. `words` has `fpr`, `tpr`, `attack`, `chance` and `allowed`."""
    roc = finding.metrics.roc if finding.metrics else None
    if roc is None:
        raise ValueError(f"finding {finding.rule} has no ROC")
    floor = _floor(roc)
    with chart_settings():
        figure = new_figure(3.5, 3.3, margins=MARGINS)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.plot([floor, 1], [floor, 1], color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)), label=words["chance"])
        if finding.claim is not None:
            _forbidden(axes, finding.claim, floor, words["allowed"])
        _curve(axes, roc, floor, words["attack"])
        axes.set_xlim(floor, 1)
        axes.set_ylim(floor, 1.15)
        axes.set_xlabel(words["fpr"])
        axes.set_ylabel(words["tpr"])
        axes.legend(loc="lower right", labelcolor=INK, handlelength=1.8)
        axes.minorticks_off()
        _plain_ticks(axes, floor)
        return to_svg(figure, f"roc-{_digest(finding)}", alt)


def allowed_rate(fpr: NDArray[np.float64], claim: TestedClaim) -> NDArray[np.float64]:
    """The largest true-positive rate that (epsilon, delta)-DP allows at each false-positive rate.

    Kairouz, Oh and Viswanath (2015, arXiv 1311.0776, theorem 2.1):
    min(e^epsilon fpr + delta, 1 - e^-epsilon (1 - delta - fpr), 1).
    """
    upper = np.exp(min(claim.epsilon, 700.0)) * fpr + claim.delta
    lower = 1 - np.exp(-claim.epsilon) * (1 - claim.delta - fpr)
    allowed: NDArray[np.float64] = np.minimum(np.minimum(upper, lower), 1.0)
    return allowed


def _forbidden(axes: Any, claim: TestedClaim, floor: float, label: str) -> None:
    fpr = np.logspace(math.log10(floor), 0, 120)
    allowed = allowed_rate(fpr, claim)
    axes.fill_between(fpr, allowed, 1.15, color=FORBIDDEN, alpha=0.16, linewidth=0)
    axes.plot(fpr, allowed, color=CLAIMED, linewidth=1.5, linestyle=(0, (1, 1.4)), label=label)


def _curve(axes: Any, roc: Roc, floor: float, label: str) -> None:
    fpr = np.asarray(roc.fpr, dtype=np.float64)
    keep = thin(fpr, floor)
    drawn = np.maximum(fpr[keep], floor)
    if roc.low:
        low = np.maximum(np.asarray(roc.low, dtype=np.float64)[keep], floor / 10)
        high = np.maximum(np.asarray(roc.high, dtype=np.float64)[keep], floor / 10)
        axes.fill_between(drawn, low, high, color=CERTIFIED, alpha=0.25, linewidth=0)
    tpr = np.maximum(np.asarray(roc.tpr, dtype=np.float64)[keep], floor / 10)
    axes.plot(drawn, tpr, color=CERTIFIED, linewidth=1.8, label=label)


def thin(fpr: NDArray[np.float64], floor: float) -> NDArray[np.intp]:
    """At most `MOST_POINTS` indices of an ascending curve, evenly spaced on the logarithmic axis, ends kept.

    Of points that share a rate at or below `floor` the last is kept: it has the largest true-positive rate.
    """
    start = max(int(np.searchsorted(fpr, floor, side="right")) - 1, 0)
    if len(fpr) - start <= MOST_POINTS:
        return np.arange(start, len(fpr))
    wanted = np.logspace(math.log10(floor), 0, MOST_POINTS)
    found = np.clip(np.searchsorted(fpr, wanted, side="right") - 1, start, len(fpr) - 1)
    return np.unique(np.concatenate([[start], found, [len(fpr) - 1]])).astype(np.intp)


def _floor(roc: Roc) -> float:
    positive = [value for value in (*roc.fpr, *roc.tpr) if value > 0]
    smallest = max(min(positive, default=0.01), LOWEST_RATE)
    return float(10.0 ** math.floor(math.log10(min(smallest, 0.01)) + 1e-9))


def _plain_ticks(axes: Any, floor: float) -> None:
    ticks = [10.0**power for power in range(round(math.log10(floor)), 1)]
    labels = [number(tick) for tick in ticks]
    axes.set_xticks(ticks, labels)
    axes.set_yticks(ticks, labels)


def _digest(finding: Finding) -> str:
    return hashlib.sha256(f"{finding.rule}|{finding.trainer}|{finding.attack}".encode()).hexdigest()[:10]
