"""Does the model continue the beginning of a row as the row itself goes on? By greedy decoding, beams, and sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...audit.text import NO_TOKEN, Sampling, TextGenerator, Tokens
from ...audit.types import BoolArray


@dataclass(frozen=True, slots=True)
class Continued:
    """What the model made of `prefix` tokens of each row: `greedy` (rows, suffix) is what it wrote, `exact` (rows,)
    whether that is how the row goes on."""

    prefix: int
    greedy: Tokens
    exact: BoolArray


def long_enough(tokens: Tokens, least: int) -> NDArray[np.int64]:
    """Positions of the rows of `tokens` (rows, length) with at least `least` tokens."""
    return np.flatnonzero((tokens != NO_TOKEN).sum(axis=1) >= least)


def continued_greedily(model: TextGenerator, rows: Tokens, prefix: int, suffix: int) -> Continued:
    """Greedy continuation of the first `prefix` tokens of each row by `suffix` more. A row whose continuation is exact
    is `prefix`-extractable (Carlini et al. 2023, arXiv 2202.07646, definition 3.1)."""
    written = model.continue_greedily(list(rows[:, :prefix]), suffix)
    return Continued(prefix, written, (written == rows[:, prefix : prefix + suffix]).all(axis=1))


def among_beams(model: TextGenerator, rows: Tokens, prefix: int, suffix: int, beams: int) -> BoolArray:
    """Whether the rest of each row is among the `beams` best continuations that beam search finds, (rows,)."""
    found = model.continue_by_beams(list(rows[:, :prefix]), suffix, beams)
    same = (found.tokens == rows[:, None, prefix : prefix + suffix]).all(axis=2)
    return np.asarray((same & np.isfinite(found.log_probabilities)).any(axis=1))


def sampled_log_probabilities(
    model: TextGenerator, rows: Tokens, prefix: int, suffix: int, sampling: Sampling
) -> NDArray[np.float64]:
    """ln of the probability p_z that one random continuation of the first `prefix` tokens is how the row goes on."""
    return model.suffix_log_probabilities(list(rows[:, :prefix]), list(rows[:, prefix : prefix + suffix]), sampling)


def discoverable(log_probabilities: NDArray[np.float64], queries: int, probability: float) -> BoolArray:
    """Whether `queries` independent continuations hold the right one with at least `probability`, (rows,).

    (n, p)-discoverable extraction (Hayes et al. 2024, arXiv 2410.19482): 1 - (1 - p_z)^n >= p, with p_z known exactly
    from the token probabilities, so that nothing is sampled.
    """
    return np.asarray(queries * _log_miss(log_probabilities) <= math.log1p(-probability))


def queries_needed(log_probabilities: NDArray[np.float64], probability: float) -> NDArray[np.float64]:
    """The least number of continuations that hold the right one with at least `probability`, (rows,); infinite where it
    cannot be written at all."""
    miss = _log_miss(log_probabilities)
    with np.errstate(divide="ignore"):
        return np.asarray(np.where(miss < 0, np.ceil(math.log1p(-probability) / miss).clip(1), np.inf))


def discoverable_share(
    log_probabilities: NDArray[np.float64], queries: Sequence[int], probability: float
) -> tuple[float, ...]:
    """The share of rows that are discoverable, for each number of queries."""
    return tuple(float(discoverable(log_probabilities, n, probability).mean()) for n in queries)


def _log_miss(log_probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln(1 - p_z), without rounding where p_z is tiny; minus infinity where it is 1."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log1p(-np.exp(np.minimum(log_probabilities, 0.0))))
