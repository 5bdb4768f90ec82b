"""Scores that tell a mechanism's outputs on D' from those on D: fitted on training runs, applied to others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.special import expit

from .errors import ConfigError
from .mechanism_outputs import ABSENT, FIRST_CATEGORY, NUMBER, Encoder, Table, quantile_bins, row_keys
from .registry import nearest
from .types import BoolArray, FloatArray

Score = Callable[[Sequence[Any]], FloatArray]
"""Outputs to one score each: higher means more likely from the second data set, D'."""

StatisticName = Literal["value", "histogram", "logistic"]


def fit_statistic(name: str, outputs: Sequence[Any], second: BoolArray) -> Score:
    """The statistic called `name`, fitted on training `outputs`, of which `second` (runs,) came from D'.

    `value`: the first number of the output. `histogram`: the log ratio of how often each binned output occurred on
    either side; right for few different outputs. `logistic`: a linear classifier of all cells; right for long ones.
    """
    if name not in get_args(StatisticName):
        raise ConfigError(f"unknown statistic {name!r}{nearest(name, list(get_args(StatisticName)))}")
    encoder = Encoder.fit(outputs)
    table = encoder.encode(outputs)
    fitted: Histogram | Logistic | Value
    if name == "value":
        fitted = Value.fit(table, second)
    elif name == "histogram":
        fitted = Histogram.fit(table, second)
    else:
        fitted = Logistic.fit(table, second)
    return lambda new: fitted.score(encoder.encode(new))


@dataclass(frozen=True, slots=True)
class Value:
    """The first cell that is a number, turned so that D' scores higher; no number at all scores as the middle."""

    sign: float
    middle: float

    @classmethod
    def fit(cls, table: Table, second: BoolArray) -> Value:
        """The direction from the side medians."""
        first = _first_number(table)
        known = ~np.isnan(first)
        if not (known & second).any() or not (known & ~second).any():
            return cls(1.0, 0.0)
        # Means as a tie-break: two discrete laws may share the median.
        gap = np.median(first[known & second]) - np.median(first[known & ~second])
        gap = gap or first[known & second].mean() - first[known & ~second].mean()
        return cls(1.0 if gap >= 0 else -1.0, float(np.median(first[known])))

    def score(self, table: Table) -> FloatArray:
        """One score a row."""
        first = _first_number(table)
        scores: FloatArray = self.sign * np.where(np.isnan(first), self.middle, first)
        return scores


@dataclass(frozen=True, slots=True)
class Histogram:
    """Log ratio of the counts of each (binned) output; an output not seen in training scores 0."""

    edges: tuple[FloatArray, ...]
    ratios: Mapping[bytes, float]

    @classmethod
    def fit(cls, table: Table, second: BoolArray) -> Histogram:
        """Finer bins where there are few columns of numbers, so that cells keep some counts."""
        varying = sum(bool((table.codes[:, j] == NUMBER).any()) for j in range(table.codes.shape[1]))
        bins = 40 if varying <= 1 else 8 if varying == 2 else 4
        columns = range(table.codes.shape[1])
        edges = tuple(quantile_bins(table.values[table.codes[:, j] == NUMBER, j], bins) for j in columns)
        keys = row_keys(table, edges)
        there, here = Counter[bytes](), Counter[bytes]()
        for key, is_second in zip(keys, second, strict=True):
            (there if is_second else here)[key] += 1
        # One half added: a cell seen once on one side is weak evidence, one seen a hundred times is not.
        ratios = {k: float(np.log((there[k] + 0.5) / (here[k] + 0.5))) for k in there.keys() | here.keys()}
        return cls(edges, ratios)

    def score(self, table: Table) -> FloatArray:
        """One score a row."""
        return np.array([self.ratios.get(key, 0.0) for key in row_keys(table, self.edges)])


@dataclass(frozen=True, slots=True)
class Logistic:
    """A ridge-regularised logistic regression of D' against D on numbers, absences and categories of every cell."""

    categories: tuple[tuple[int, int], ...]
    mean: FloatArray
    scale: FloatArray
    weights: FloatArray

    @classmethod
    def fit(cls, table: Table, second: BoolArray, *, most_categories: int = 200) -> Logistic:
        """By Newton's method; the penalty of one unit a standardised coefficient keeps separable data finite."""
        width = table.codes.shape[1]
        pairs = [(j, int(code)) for j in range(width) for code in np.unique(table.codes[:, j]) if code != NUMBER]
        categories = tuple(p for p in pairs if p[1] >= FIRST_CATEGORY or p[1] == ABSENT)[:most_categories]
        raw = _features(table, categories)
        mean, scale = raw.mean(axis=0), raw.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        design = np.column_stack([np.ones(len(raw)), (raw - mean) / scale])
        weights = np.zeros(design.shape[1])
        penalty = np.ones(design.shape[1])
        for _ in range(25):
            chance = expit(design @ weights)
            gradient = design.T @ (second - chance) - penalty * weights
            curvature = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag(penalty)
            step = np.linalg.solve(curvature, gradient)
            weights = weights + step
            if np.abs(step).max() < 1e-6:
                break
        return cls(categories, mean, scale, weights)

    def score(self, table: Table) -> FloatArray:
        """The log odds of D' for each row."""
        standard = (_features(table, self.categories) - self.mean) / self.scale
        scores: FloatArray = standard @ self.weights[1:] + self.weights[0]
        return scores


def _features(table: Table, categories: Sequence[tuple[int, int]]) -> FloatArray:
    flags = [(table.codes[:, j] == code).astype(float) for j, code in categories]
    return np.column_stack([table.values, *flags]) if flags else table.values


def _first_number(table: Table) -> FloatArray:
    """The first number of each row, NaN where there is none."""
    is_number = table.codes == NUMBER
    if not table.codes.shape[1]:
        return np.full(len(table.codes), np.nan)
    where = is_number.argmax(axis=1)
    rows = np.arange(len(where))
    return np.where(is_number[rows, where], table.values[rows, where], np.nan)
