"""Our designs for the coverage fixtures, chosen before any reported trial is drawn.

The rule is written down here and uses three things only: that scores follow the Laplace law with epsilon 1, the number
of canaries, and alpha. Under that law no test beats the likelihood ratio, which is flat at its extremes: a score above
1 or below 0 is worth the full odds e, whatever its size. So the guesses to make are the scores outside [0, 1], about
68 % of them, and `planned_design` finds the number, and the threshold of the many-run bound, by maximising the mean
bound over trials of a planning stream that no reported trial shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ...audit.bounds import ClopperPearson
from ...audit.design import RunTrials
from ...audit.seeds import Seeds
from .fixtures import CANARIES, CoverageFixture, coverage_fixture

ALPHA = 0.05
PLANNING_TRIALS = 400
GUESS_STEP = 20
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(10, 31))
"""Candidates 0.5, 0.55, ... 1.5."""


@dataclass(frozen=True, slots=True)
class PlannedDesign:
    """What is fixed beforehand: how many of the most extreme scores are guessed, and where the other bounds cut.

    `threshold` serves `clopper-pearson`, ours and the peers'; `one_sided_threshold` serves the peer's one-run bound,
    which guesses `inside` only.
    """

    guesses: int
    threshold: float
    one_sided_threshold: float


def planned_design(*, seeds: Seeds, canaries: int = CANARIES, trials: int = PLANNING_TRIALS) -> PlannedDesign:
    """The design with the best mean bound over `trials` planning audits under the Laplace law."""
    planning = coverage_fixture("laplace", trials, seeds=seeds.at("planning"), canaries=canaries)
    numbers = np.arange(GUESS_STEP, canaries + 1, GUESS_STEP)
    return PlannedDesign(
        guesses=int(numbers[np.argmax(mean_one_run(planning, numbers))]),
        threshold=_best(THRESHOLDS, lambda t: _mean_clopper_pearson(planning, t)),
        one_sided_threshold=_best(THRESHOLDS, lambda t: _mean_one_sided(planning, t)),
    )


def expected_saturated(canaries: int) -> float:
    """Expected number of scores outside [0, 1], where the likelihood ratio is e or 1 / e: (1 + 1/e) / 2 a canary."""
    return canaries * (1 + math.exp(-1)) / 2


def mean_one_run(fixture: CoverageFixture, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean one-run bound at delta 0 for each number of guesses (half highest, half lowest scores)."""
    order = np.argsort(fixture.scores, axis=1)
    ordered = np.take_along_axis(fixture.inside, order, axis=1)
    from_below = np.cumsum(~ordered, axis=1)
    from_above = np.cumsum(ordered[:, ::-1], axis=1)
    means = []
    for number in numbers:
        low, high = int(number) // 2, int(number) - int(number) // 2
        correct = from_above[:, high - 1] + (from_below[:, low - 1] if low else 0)
        means.append(_one_run(correct, np.full(len(correct), number)).mean())
    return np.array(means)


def _one_run(correct: NDArray[np.int64], guesses: NDArray[np.int64]) -> NDArray[np.float64]:
    """The one-run bound at delta 0: log odds of the Clopper-Pearson limit, for whole arrays at once."""
    limit = special.betaincinv(np.maximum(correct, 1), guesses - correct + 1, ALPHA)
    return np.asarray(np.where(correct > 0, np.maximum(special.logit(limit), 0.0), 0.0))


def _mean_one_sided(fixture: CoverageFixture, threshold: float) -> float:
    guessed = fixture.scores >= threshold
    return float(_one_run((guessed & fixture.inside).sum(axis=1), guessed.sum(axis=1)).mean())


def _mean_clopper_pearson(fixture: CoverageFixture, threshold: float) -> float:
    method = ClopperPearson()
    trials = zip(fixture.scores, fixture.inside, strict=True)
    return float(
        np.mean([method.epsilon_lower(RunTrials(s, b).count(threshold), delta=0.0, alpha=ALPHA) for s, b in trials])
    )


def _best(candidates: tuple[float, ...], value: Callable[[float], float]) -> float:
    return max(candidates, key=value)
