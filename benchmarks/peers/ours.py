"""Our own bounds on the coverage fixtures: every design fixed beforehand, held out, or valid at any time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ...audit.bounds import ClopperPearson, GuessSequence, OneRun, OneRunAnytime
from ...audit.design import CoinTrials, RunTrials
from ...audit.seeds import Seeds
from ...audit.types import BoolArray
from .fixtures import CoverageFixture
from .outcome import CallOutcome
from .planning import ALPHA, PlannedDesign

OneCall = Callable[[NDArray[np.float64], BoolArray, Seeds], float]
"""Scores (canaries,), truth (canaries,) and a stream to a lower bound on epsilon."""


def our_calls(design: PlannedDesign) -> dict[str, OneCall]:
    """Our rows by name. All are `approx-dp` bounds at delta 0 and confidence 0.95."""
    return {
        "ours-one-run": lambda s, b, _: one_run(s, b, design.guesses),
        "ours-one-run-all": lambda s, b, _: one_run(s, b, len(s)),
        "ours-one-run-anytime": lambda s, b, _: one_run_anytime(s, b),
        "ours-clopper-pearson": lambda s, b, _: clopper_pearson(RunTrials(s, b), design.threshold),
        "ours-clopper-pearson-holdout": lambda s, b, seeds: clopper_pearson_holdout(RunTrials(s, b), seeds),
    }


def our_outcomes(
    fixture: CoverageFixture, design: PlannedDesign, limits: Mapping[str, int], *, seeds: Seeds
) -> list[CallOutcome]:
    """Every call of ours on the first `limits[name]` trials of `fixture`."""
    out = []
    for name, call in our_calls(design).items():
        trials = min(limits[name], len(fixture.scores))
        started = time.perf_counter()
        values = [call(fixture.scores[t], fixture.inside[t], seeds.at(name, fixture.name, t)) for t in range(trials)]
        seconds = time.perf_counter() - started
        out.append(CallOutcome(name, fixture.name, tuple(values), seconds / trials))
    return out


def one_run(scores: NDArray[np.float64], inside: BoolArray, guesses: int) -> float:
    """`one-run` with so many guesses, half on the highest and half on the lowest scores."""
    counts = CoinTrials(scores, inside, _ids(len(scores))).count(guesses)
    return OneRun().epsilon_lower(counts, delta=0.0, alpha=ALPHA)


def one_run_anytime(scores: NDArray[np.float64], inside: BoolArray) -> float:
    """`one-run-anytime`: every canary guessed, the scores farthest from their median first.

    Order and guesses follow from the scores alone, so nothing is fitted to the truth and there is nothing to choose.
    """
    distance = scores - np.median(scores)
    order = np.argsort(-np.abs(distance), kind="stable")
    correct = (distance > 0)[order] == inside[order]
    counts = GuessSequence(tuple(correct.tolist()), len(scores))
    return OneRunAnytime().epsilon_lower(counts, delta=0.0, alpha=ALPHA)


def clopper_pearson(trials: RunTrials, threshold: float) -> float:
    """`clopper-pearson` at a fixed threshold: each canary's noise is its own, so the scores are independent runs."""
    return ClopperPearson().epsilon_lower(trials.count(threshold), delta=0.0, alpha=ALPHA)


def clopper_pearson_holdout(trials: RunTrials, seeds: Seeds) -> float:
    """`clopper-pearson` on one half, at the threshold that is best on the other."""
    choosing, testing = trials.holdout(seeds=seeds.at("holdout"))
    candidates = np.quantile(choosing.scores, np.linspace(0.02, 0.98, 49))
    best = max(candidates, key=lambda t: clopper_pearson(choosing, float(t)))
    return clopper_pearson(testing, float(best))


def _ids(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
