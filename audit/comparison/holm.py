"""One error probability for a whole family of tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one test: the level it was held against, and its p-value corrected for the family."""

    rejected: bool
    level: float
    adjusted: float


def holm(p_values: Sequence[float], alpha: float) -> list[Decision]:
    """Decisions in the order given, with family-wise error at most `alpha` under any dependence (Holm 1979).

    `level` is such that `rejected` is p <= level for every test, so that the interval at that level excludes zero
    exactly where the test rejects: those after the first that stands share its level.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    found: dict[int, Decision] = {}
    standing: float | None = None
    largest = 0.0
    for rank, index in enumerate(order):
        remaining = len(p_values) - rank
        largest = max(largest, min(1.0, p_values[index] * remaining))
        level = alpha / remaining if standing is None else standing
        rejected = standing is None and p_values[index] <= level
        if not rejected:
            standing = level
        found[index] = Decision(rejected, level, largest)
    return [found[i] for i in range(len(p_values))]
