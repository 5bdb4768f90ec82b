"""The two tables as markdown and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ...audit.show import table
from .attacks import MEASURES, AttackRow, FamilyComparison, Mean
from .coverage import CoverageRow, Rate
from .fixtures import TRUTHS
from .orderings import Ordering

COVERAGE_COLUMNS = ["tool", "call", "planned", "null", "false %", "laplace", "false %", "mean epsilon", "ms", "verdict"]
ATTACK_COLUMNS = ["family", "tool", "attack", "AUC", "TPR at 1 % FPR", "ms"]
COMPARISON_COLUMNS = ["family", "best peer", "AUC, ours - peer", "TPR at 1 % FPR, ours - peer", "at least equal"]

ORDERING_COLUMNS = ["expected", "AUC, difference", "TPR at 1 % FPR, difference", "holds"]


def coverage_cells(rows: Iterable[CoverageRow]) -> list[list[str]]:
    """Trials and false-claim rate in percent with its standard error, on either fixture; then the Laplace mean."""
    return [_coverage_line(row) for row in rows]


def attack_cells(rows: Sequence[AttackRow]) -> list[list[str]]:
    """Means over targets with 95 % intervals; families together, in the order they first appear."""
    families = list(dict.fromkeys(row.info.family for row in rows))
    ordered = sorted(rows, key=lambda row: families.index(row.info.family))
    return [[row.info.family, row.info.tool, row.info.what, *_measured(row)] for row in ordered]


def comparison_cells(comparisons: Iterable[FamilyComparison]) -> list[list[str]]:
    """Differences with 95 % intervals, positive where ours is ahead."""
    return [
        [c.family, c.peer, *(_signed(c.differences[m]) for m in MEASURES), "yes" if c.at_least_equal else "NO"]
        for c in comparisons
    ]


def ordering_cells(ordered: Iterable[Ordering]) -> list[list[str]]:
    """Differences with 95 % intervals, positive where the expectation is met."""
    return [
        [o.expected.statement, *(_signed(o.differences[m]) for m in MEASURES), "yes" if o.holds else "NO"]
        for o in ordered
    ]


def markdown_table(columns: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """A markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in row) + " |" for row in cells]
    return "\n".join(lines) + "\n"


def show(title: str, columns: list[str], cells: list[list[str]]) -> None:
    """The same on standard output."""
    table(title, columns, [list(row) for row in cells])


def _coverage_line(row: CoverageRow) -> list[str]:
    head = [row.info.tool, row.info.what, row.info.knowledge]
    if row.error:
        return [*head, *["-"] * 6, f"error: {row.error}"]
    cells = [text for fixture in TRUTHS for text in _rate(row.rates.get(fixture))]
    last = row.rates.get("laplace")
    mean = "-" if last is None or math.isnan(last.mean) else f"{last.mean:.3f}"
    speed = "-" if last is None else _milliseconds(last.seconds)
    verdict = row.verdict if row.info.kind == "bound" else f"{row.verdict} ({row.info.kind})"
    return [*head, *cells, mean, speed, verdict]


def _rate(rate: Rate | None) -> list[str]:
    if rate is None:
        return ["-", "-"]
    return [str(rate.trials), f"{100 * rate.rate:.1f} ± {100 * rate.standard_error:.1f}"]


def _measured(row: AttackRow) -> list[str]:
    if row.error:
        return [f"error: {row.error}", "-", "-"]
    return [*(_interval(Mean.of(row.values[m])) for m in MEASURES), _milliseconds(row.seconds)]


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.2g}" if seconds < 0.0995 else f"{1000 * seconds:.0f}"


def _interval(mean: Mean) -> str:
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def _signed(mean: Mean) -> str:
    return f"{mean.value:+.3f} [{mean.low:+.3f}, {mean.high:+.3f}]"
