"""The limit table: the median epsilon that each method can certify of a Gaussian mechanism with an optimal attack.

Confidence 0.95, delta 1e-5, best threshold, number of guesses or pool (shared/reference/theory.md, sections 1.12 and
3). `canaries` are canaries or slots of one model, or models in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """One cell. `dp_sgd` means DP-SGD (q .01, sigma 1, T 1000) instead of the Gaussian mechanism; `family` is that of
    `one-run-fdp`."""

    method: str
    epsilon: float
    canaries: int
    value: float
    dp_sgd: bool = False
    family: str = "gaussian"

    @property
    def label(self) -> str:
        """The method, with its family where there are two."""
        return f"{self.method} {self.family}" if self.method == "one-run-fdp" else self.method


_COLUMNS = ("one-run", "one-run-anytime", "one-run-fdp", "clopper-pearson", "sequential", "bayesian", "gdp")
_GAUSSIAN = {
    (100, 1): (0.00, 0.00, 0.00, 0.00, 0.00, 0.16, 0.00),
    (100, 2): (0.15, 0.00, 0.25, 0.00, 0.00, 0.16, 0.00),
    (100, 4): (0.76, 0.50, 1.35, 0.13, 0.28, 0.63, 0.60),
    (100, 8): (1.82, 1.60, 3.41, 0.87, 1.08, 1.51, 3.36),
    (1000, 1): (0.21, 0.09, 0.33, 0.03, 0.07, 0.15, 0.12),
    (1000, 2): (0.65, 0.49, 0.99, 0.33, 0.40, 0.58, 1.03),
    (1000, 4): (1.54, 1.45, 2.32, 1.03, 1.12, 1.40, 2.92),
    (1000, 8): (2.78, 2.75, 4.59, 2.28, 2.33, 2.70, 6.59),
    (5000, 1): (0.40, 0.28, 0.54, 0.22, 0.26, 0.35, 0.58),
    (5000, 2): (0.97, 0.79, 1.26, 0.66, 0.72, 0.85, 1.57),
    (5000, 4): (1.93, 1.67, 2.61, 1.59, 1.63, 1.89, 3.51),
    (5000, 8): (3.64, 3.16, 5.38, 3.10, 3.11, 3.50, 7.37),
    (10000, 1): (0.48, 0.35, 0.62, 0.30, 0.34, 0.42, 0.72),
    (10000, 2): (1.04, 0.84, 1.32, 0.80, 0.84, 0.95, 1.69),
    (10000, 4): (2.08, 1.74, 2.73, 1.79, 1.83, 2.06, 3.65),
    (10000, 8): (3.83, 3.23, 5.42, 3.43, 3.42, 3.79, 7.52),
}
_RANKS = {
    (100, 1): (0.07, 0.00),
    (100, 2): (0.45, 0.00),
    (100, 4): (1.46, 0.58),
    (100, 8): (2.08, 0.95),
    (1000, 1): (0.35, 0.00),
    (1000, 2): (0.89, 0.25),
    (1000, 4): (2.11, 1.31),
    (1000, 8): (5.17, 3.50),
    (5000, 1): (0.50, 0.16),
    (5000, 2): (1.18, 0.71),
    (5000, 4): (2.67, 1.86),
    (5000, 8): (6.06, 4.68),
    (10000, 1): (0.58, 0.21),
    (10000, 2): (1.29, 0.77),
    (10000, 4): (2.85, 2.06),
    (10000, 8): (6.32, 5.28),
}
_DP_SGD = {1000: (0.51, 0.77, 0.78), 5000: (0.74, 0.97, 0.99)}


def _cells() -> Iterator[Limit]:
    for (canaries, epsilon), values in _GAUSSIAN.items():
        for method, value in zip(_COLUMNS, values, strict=True):
            yield Limit(method, epsilon, canaries, value)
        for method, value in zip(("rank", "k-ary"), _RANKS[canaries, epsilon], strict=True):
            yield Limit(method, epsilon, canaries, value)
    for canaries, (pooled, gaussian, exact) in _DP_SGD.items():
        yield Limit("one-run", 1.828, canaries, pooled, dp_sgd=True)
        yield Limit("one-run-fdp", 1.828, canaries, gaussian, dp_sgd=True)
        yield Limit("one-run-fdp", 1.828, canaries, exact, dp_sgd=True, family="dp-sgd")


LIMITS = tuple(_cells())
