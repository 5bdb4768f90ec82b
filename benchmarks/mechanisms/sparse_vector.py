"""The six published sparse-vector algorithms that Lyu, Su and Li compare (2017, arXiv 1603.01699, figure 1).

All answer a stream of counting queries with "above" or "below" a threshold and claim epsilon under replace-one; each
query moves by at most 1. They differ in where noise goes and when they stop. Two are right, four are not:

1. theirs: right. 2. Dwork and Roth 2014, with the threshold's noise drawn afresh: right.
3. Roth's 2011 lecture notes: releases the noisy count itself when it is above, which gives the threshold away.
4. Lee and Clifton 2014: noise does not grow with the number c of positive answers; (1 + 6c) / 4 epsilon.
5. Stoddard et al. 2014: no noise on the queries; no bound. 6. Chen et al. 2015: no limit on positives; no bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .correct import Ballots, tally

ABOVE, BELOW = "above", "below"


@dataclass(frozen=True, slots=True)
class SparseVector:
    """One sparse-vector algorithm, spelled out by its parameters; see `variant`.

    Noise scales are in units of 1 / epsilon; `query_scale` 0 is no noise. After `positives` answers "above" it
    stops. `redraw_threshold`: fresh threshold noise after each "above". `release_value`: say the noisy count instead.
    """

    threshold_scale: float
    query_scale: float
    positives: float
    epsilon: float = 1.0
    threshold: float = 0.5
    redraw_threshold: bool = False
    release_value: bool = False

    def __call__(self, dataset: Ballots, rng: np.random.Generator) -> tuple[str | float, ...]:
        """Answers to the queries "how many rows have a 1 in column j", until the algorithm stops."""
        return tuple(self._answers(dataset, rng))

    def _answers(self, dataset: Ballots, rng: np.random.Generator) -> Iterator[str | float]:
        left = self.positives
        counts = tally(dataset).tolist()
        noise = rng.laplace(scale=self.query_scale / self.epsilon, size=len(counts)) if self.query_scale else None
        bar = self.threshold + rng.laplace(scale=self.threshold_scale / self.epsilon)
        for j, count in enumerate(counts):
            noisy = count if noise is None else count + float(noise[j])
            if noisy < bar:
                yield BELOW
                continue
            yield noisy if self.release_value else ABOVE
            left -= 1
            if left <= 0:
                return
            if self.redraw_threshold:
                bar = self.threshold + rng.laplace(scale=self.threshold_scale / self.epsilon)


def variant(number: int, *, epsilon: float = 1.0, positives: int = 1, threshold: float = 0.5) -> SparseVector:
    """Algorithm `number` (1 to 6) of the paper for queries of sensitivity 1, `positives` being its c.

    Half of epsilon goes to the threshold, in algorithm 4 a quarter.
    """
    c = float(positives)
    parameters: dict[int, tuple[float, float, float, bool, bool]] = {
        1: (2, 4 * c, c, False, False),
        2: (2 * c, 4 * c, c, True, False),
        3: (2, 2 * c, c, False, True),
        4: (4, 4 / 3, c, False, False),
        5: (2, 0, math.inf, False, False),
        6: (2, 2, math.inf, False, False),
    }
    threshold_scale, query_scale, stop, redraw, value = parameters[number]
    return SparseVector(threshold_scale, query_scale, stop, epsilon, threshold, redraw, value)


def true_epsilon_at_most(number: int, *, epsilon: float = 1.0, positives: int = 1) -> float:
    """What the paper proves for algorithm `number`: epsilon, (1 + 6c) / 4 epsilon for 4, nothing for 3, 5 and 6."""
    return {1: epsilon, 2: epsilon, 4: (1 + 6 * positives) / 4 * epsilon}.get(number, math.inf)


def worst_rows(queries: int) -> tuple[list[list[int]], list[list[int]]]:
    """One row that is in the first half of the queries' counts, and its neighbour, one that is in the second half."""
    half = queries // 2
    return [[0] * half + [1] * (queries - half)], [[1] * half + [0] * (queries - half)]
