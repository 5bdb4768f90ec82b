"""False-claim probabilities of count bounds, enumerated exactly on mechanisms whose counts have a known law."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from ..bounds import (
    ClopperPearson,
    ConfusionCounts,
    Gdp,
    GuessCounts,
    KAry,
    KAryMarkov,
    OneRun,
    OneRunFdp,
    Rank,
    RankCounts,
    SlotCounts,
)
from .mechanisms import Gaussian, KnownMechanism, Laplace, RandomizedResponse, SubsampledGaussian
from .report import FalseClaimCell

SLACK = 1e-9
"""A bound within this of the truth is no false claim: both carry rounding errors."""

RUNS = 500
CANARIES = 1000
GUESSES = 200
SLOTS = (1000, 0.3, 100, 1)
"""Slots, fill probability, pool and top rank of the k-ary designs."""
Law = NDArray[np.float64]


def exact_cells(alpha: float) -> Iterator[FalseClaimCell]:
    """One cell for each count bound and mechanism, at error probability `alpha`."""
    yield from _many_run_cells(alpha)
    yield from _one_run_cells(alpha)
    yield from _rank_cells(alpha)
    for method in (KAry(), KAryMarkov()):
        yield from _k_ary_cells(method, alpha)
    yield from _targeted_cells(alpha)


def first_false(bound: Callable[[int], float], most: int, truth: float) -> int:
    """The smallest count in [0, most] whose bound exceeds `truth`, for bounds that grow with the count; most + 1 if
    none does."""
    low, high = 0, most + 1
    while low < high:
        middle = (low + high) // 2
        if bound(middle) > truth + SLACK:
            high = middle
        else:
            low = middle + 1
    return low


def _many_run_cells(alpha: float) -> Iterator[FalseClaimCell]:
    everyone: list[KnownMechanism] = [
        RandomizedResponse(0.0),
        RandomizedResponse(1.0),
        RandomizedResponse(4.0),
        RandomizedResponse(1.0, 1e-2),
        Laplace(1.0),
        Gaussian(1.0),
        Gaussian(4.0),
        SubsampledGaussian(),
    ]
    for mechanism in everyone:
        yield confusion_cell(ClopperPearson(), mechanism, alpha, mechanism.delta)
    for mechanism in (RandomizedResponse(0.0), Gaussian(1.0), Gaussian(4.0)):
        yield confusion_cell(Gdp(), mechanism, alpha, 1e-5)


def confusion_cell(method: Any, mechanism: KnownMechanism, alpha: float, delta: float) -> FalseClaimCell:
    """The worst of several thresholds, each fixed beforehand, with `RUNS` models a side."""
    corner = (1 - delta) / (1 + math.exp(mechanism.epsilon))
    limits = _critical_true_positives(method, alpha, delta, mechanism.epsilon)
    rates = [_confusion_rate(limits, mechanism.true_positive_rate(x), x) for x in (corner, 0.002, 0.01, 0.05, 0.2, 0.5)]
    return FalseClaimCell(method.name, mechanism.name, mechanism.epsilon, delta, alpha, max(rates))


def _critical_true_positives(method: Any, alpha: float, delta: float, truth: float) -> NDArray[np.int64]:
    """For each number of false positives the least true positives that make a false claim; never falls."""
    limits = np.empty(RUNS + 1, dtype=np.int64)
    t = 0
    for f in range(RUNS + 1):
        while t <= RUNS:
            counts = ConfusionCounts(t, f, RUNS, RUNS)
            if method.epsilon_lower(counts, delta=delta, alpha=alpha) > truth + SLACK:
                break
            t += 1
        limits[f] = t
    return limits


def _confusion_rate(limits: NDArray[np.int64], tpr: float, fpr: float) -> float:
    weight = stats.binom.pmf(np.arange(RUNS + 1), RUNS, fpr)
    return float(weight @ stats.binom.sf(limits - 1, RUNS, tpr))


def _one_run_cells(alpha: float) -> Iterator[FalseClaimCell]:
    for epsilon in (0.0, 0.5, 1.0, 2.0, 4.0):
        mechanism = RandomizedResponse(epsilon)
        law = stats.binom.pmf(np.arange(GUESSES + 1), GUESSES, special.expit(epsilon))
        yield _guess_cell(OneRun(), mechanism.name, (epsilon, 0.0), alpha, law)
    yield _guess_cell(OneRunFdp(), "null", (0.0, 1e-5), alpha, stats.binom.pmf(np.arange(201), 200, 0.5))
    for delta in (1e-4, 1e-3):
        mechanism = RandomizedResponse(1.0, delta)
        yield _guess_cell(OneRun(), mechanism.name, (1.0, delta), alpha, give_away_law(1.0, delta))
    for block in (1, 5, 10, 20, 50):
        law = block_law(1.0, 1e-4, block)
        yield _guess_cell(OneRun(), f"block-of-{block}(1, 0.0001)", (1.0, 1e-4), alpha, law)


def give_away_law(epsilon: float, delta: float) -> Law:
    """Law of the correct guesses when each canary is given away with probability delta, and those are guessed first."""
    given = stats.binom.pmf(np.arange(CANARIES + 1), CANARIES, delta)
    law = np.zeros(GUESSES + 1)
    for known in np.flatnonzero(given > 1e-18):
        law += given[known] * _helped_law(min(int(known), GUESSES), epsilon)
    return law


def block_law(epsilon: float, delta: float, block: int) -> Law:
    """Law of the correct guesses when a random block of canaries is given away, with probability m delta / block.

    Each canary is in the block with probability delta, so the mechanism is (epsilon, delta)-DP; among them one is
    within a factor 2 of the worst case of the delta term.
    """
    revealed = CANARIES * delta / block
    return (1 - revealed) * _helped_law(0, epsilon) + revealed * _helped_law(block, epsilon)


def _helped_law(known: int, epsilon: float) -> Law:
    rest = GUESSES - known
    return np.concatenate([np.zeros(known), stats.binom.pmf(np.arange(rest + 1), rest, special.expit(epsilon))])


def _guess_cell(method: Any, mechanism: str, truth: tuple[float, float], alpha: float, law: Law) -> FalseClaimCell:
    def bound(correct: int) -> float:
        counts = GuessCounts(CANARIES, GUESSES, correct)
        return float(method.epsilon_lower(counts, delta=truth[1], alpha=alpha))

    return _tail_cell(method.name, mechanism, truth, alpha, law, bound)


def _rank_cells(alpha: float) -> Iterator[FalseClaimCell]:
    pool, top = 1000, 2
    mechanisms: list[KnownMechanism] = [RandomizedResponse(0.0), RandomizedResponse(1.0), RandomizedResponse(4.0)]
    mechanisms += [RandomizedResponse(1.0, 1e-3), Gaussian(4.0)]
    for mechanism in mechanisms:

        def bound(hits: int, delta: float = mechanism.delta) -> float:
            return Rank().epsilon_lower(RankCounts(RUNS, hits, pool, top), delta=delta, alpha=alpha)

        rate = mechanism.true_positive_rate(top / pool)
        law = stats.binom.pmf(np.arange(RUNS + 1), RUNS, rate)
        yield _tail_cell("rank", mechanism.name, (mechanism.epsilon, mechanism.delta), alpha, law, bound)


def _k_ary_cells(method: KAry | KAryMarkov, alpha: float) -> Iterator[FalseClaimCell]:
    slots, fill, pool, top = SLOTS

    def bound(hits: int, delta: float = 0.0) -> float:
        return method.epsilon_lower(SlotCounts(slots, hits, fill, pool, top), delta=delta, alpha=alpha)

    for epsilon in (0.0, 1.0, 4.0):
        law = _slot_law(slots, epsilon)
        yield _tail_cell(method.name, f"boundary({epsilon:g})", (epsilon, 0.0), alpha, law, bound)
    delta = 1e-4
    for block in (1, 5, 20):
        revealed = slots * delta / block
        helped = np.convolve(stats.binom.pmf(np.arange(block + 1), block, fill), _slot_law(slots - block, 1.0))
        law = (1 - revealed) * _slot_law(slots, 1.0) + revealed * helped
        name = f"block-of-{block}(1, {delta:g})"
        yield _tail_cell(method.name, name, (1.0, delta), alpha, law, lambda hits: bound(hits, delta))


def _targeted_cells(alpha: float) -> Iterator[FalseClaimCell]:
    """The worst law that the proof of `k-ary-markov` allows: delta helps exactly the runs that lack `short` hits to a
    false claim. No mechanism is known to reach it; `k-ary` assumes that none does."""
    slots, fill, pool, top = SLOTS
    delta, epsilon = 1e-6, 1.0

    def bound(hits: int) -> float:
        return KAryMarkov().epsilon_lower(SlotCounts(slots, hits, fill, pool, top), delta=delta, alpha=alpha)

    critical = first_false(bound, slots, epsilon)
    for short in (1, 3, 10):
        law = _slot_law(slots, epsilon)
        room = float(law[max(0, critical - short) : critical].sum())
        rate = float(law[critical:].sum()) + min(room, slots * fill * delta / short)
        yield FalseClaimCell("k-ary-markov", f"targeted-{short}(1, {delta:g})", epsilon, delta, alpha, rate)


def _slot_law(slots: int, epsilon: float) -> Law:
    """The most hits that epsilon-DP allows: binomial at the largest posterior chance of a hit."""
    _, fill, pool, top = SLOTS
    odds = fill / (1 - fill) * math.exp(epsilon) * top / pool
    return np.asarray(stats.binom.pmf(np.arange(slots + 1), slots, odds / (1 + odds)))


def _tail_cell(
    method: str,
    mechanism: str,
    truth: tuple[float, float],
    alpha: float,
    law: Law,
    bound: Callable[[int], float],
) -> FalseClaimCell:
    critical = first_false(bound, len(law) - 1, truth[0])
    return FalseClaimCell(method, mechanism, *truth, alpha, float(law[critical:].sum()))
