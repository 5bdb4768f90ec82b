"""Power: the median bound with optimal scores and designs, next to the limit of each method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..bounds import (
    Bayesian,
    ClopperPearson,
    ConfusionCounts,
    Gdp,
    GuessCounts,
    KAry,
    OneRun,
    OneRunFdp,
    Rank,
    RankCounts,
    SlotCounts,
    sequential,
)
from ..bounds import one_run_anytime as anytime
from ..bounds.search import last_true
from ..seeds import Seeds
from .limits import LIMITS, Limit
from .mechanisms import Floats, Gaussian, KnownMechanism, SubsampledGaussian
from .report import PowerCell
from .simulated import guesses, pair_outputs

ALPHA = 0.05
PILOT = 4_000_000
"""Canaries in the audits that choose the number of guesses (the table's is an oracle's), on a stream of their own."""

SAFE = 0.48
"""Simulated designs are compared by this quantile of the count: counts are lumpy, a median on the edge is luck."""

LUMPY_AUDITS, LUMPY_SAFE = 40_000, 0.49
"""The same for DP-SGD with few canaries, where one right guess is some 2 % of the bound: more audits, less margin."""

EXACT = 0
"""Trials of a cell whose median is that of a known law."""

POOL = 10**6


@dataclass(frozen=True, slots=True)
class Median:
    """The median bound over the audits, and the design it was reached with."""

    epsilon: float
    design: str


def power_cells(canaries: Iterable[int], trials: int, seeds: Seeds) -> Iterator[PowerCell]:
    """One cell for each entry of the limit table with so many canaries."""
    wanted = set(canaries)
    one_run: dict[tuple[str, int], _OneRunAudits] = {}
    for limit in LIMITS:
        if limit.canaries not in wanted:
            continue
        mechanism: KnownMechanism = SubsampledGaussian() if limit.dp_sgd else Gaussian(limit.epsilon)
        branch = seeds.at(mechanism.name, limit.canaries)
        drawn = min(trials, 500) if limit.method == "bayesian" and limit.canaries > 1000 else trials
        if limit.method in _EXACT:
            median, drawn = _EXACT[limit.method](mechanism, limit.canaries), EXACT
        elif limit.method in _MANY_RUNS:
            median = _MANY_RUNS[limit.method](mechanism, limit.canaries, drawn, branch.at(limit.method))
        else:
            key = (mechanism.name, limit.canaries)
            lumpy = limit.dp_sgd and limit.canaries <= 1000
            drawn = LUMPY_AUDITS if lumpy else trials
            if key not in one_run:
                one_run.clear()  # one at a time: each holds up to 200 MB
                one_run[key] = _OneRunAudits.draw(mechanism, limit.canaries, drawn, lumpy, branch.at("one-run"))
            median = _one_run_median(one_run[key], limit)
        yield _cell(limit, mechanism, median, drawn)


def _cell(limit: Limit, mechanism: KnownMechanism, median: Median, trials: int) -> PowerCell:
    return PowerCell(
        method=limit.label,
        mechanism=mechanism.name,
        epsilon=mechanism.epsilon,
        canaries=limit.canaries,
        delta=mechanism.delta,
        median=median.epsilon,
        limit=limit.value,
        trials=trials,
        design=median.design,
    )


@dataclass(frozen=True, slots=True)
class _OneRunAudits:
    """Right guesses so far, most confident first, int16 (audits, canaries); in a pilot, their `SAFE` quantiles."""

    mechanism: KnownMechanism
    correct: NDArray[np.int16]
    pilot: Floats

    @classmethod
    def draw(cls, mechanism: KnownMechanism, canaries: int, trials: int, lumpy: bool, seeds: Seeds) -> _OneRunAudits:
        pilots, level = (LUMPY_AUDITS, LUMPY_SAFE) if lumpy else (min(4000, PILOT // canaries), SAFE)
        pilot = _running(mechanism, canaries, pilots, seeds.at("pilot"))
        safe = np.quantile(pilot, level, axis=0, method="lower").astype(np.float64)
        return cls(mechanism, _running(mechanism, canaries, trials, seeds), safe)


def _running(mechanism: KnownMechanism, canaries: int, trials: int, seeds: Seeds) -> NDArray[np.int16]:
    chunks = [np.cumsum(right, axis=1, dtype=np.int16) for right in guesses(mechanism, canaries, trials, seeds)]
    return np.concatenate(chunks)


def _one_run_median(audits: _OneRunAudits, limit: Limit) -> Median:
    if limit.method == "one-run-anytime":
        return _anytime_median(audits)
    method: Any = OneRun()
    if limit.method == "one-run-fdp":
        exact = limit.dp_sgd and limit.family == "dp-sgd"
        method = OneRunFdp("dp-sgd", 0.01, 1000) if exact else OneRunFdp()
    # The exact DP-SGD family is dear, and its best number of guesses is the Gaussian family's.
    scout: Any = OneRun() if limit.method == "one-run" else OneRunFdp()
    return _guess_median(audits, method, scout)


def _guess_median(audits: _OneRunAudits, method: Any, scout: Any) -> Median:
    canaries, delta = audits.correct.shape[1], audits.mechanism.delta

    def bound(by: Any, guessed: int, right: int) -> float:
        counts = GuessCounts(canaries, guessed, min(right, guessed))
        return float(by.epsilon_lower(counts, delta=delta, alpha=ALPHA))

    grid = np.unique(np.geomspace(8, canaries, 140).astype(int)).tolist()
    best = max(grid, key=lambda r: bound(scout, r, int(audits.pilot[r - 1])))
    # The bound grows with the count, so that the median bound is the bound of the median count.
    middle = math.floor(np.median(audits.correct[:, best - 1]))
    return Median(bound(method, best, middle), f"{best} guesses")


def _anytime_median(audits: _OneRunAudits) -> Median:
    """The largest epsilon that at least half of the audits reject."""
    trials, canaries = audits.correct.shape
    allowance = anytime.Allowance.of(canaries, audits.mechanism.delta, ALPHA)
    every = np.unique(np.linspace(1, canaries, min(canaries, 1000)).astype(int))
    right = audits.correct[:, every - 1].astype(np.int64)
    states, where = np.unique(right * (canaries + 1) + (every - right), return_inverse=True)
    counted = np.maximum(states // (canaries + 1) - allowance.forgiven, 0)
    wrong = states % (canaries + 1)

    def rejected_by_half(epsilon: float) -> bool:
        capital = anytime.log_capital(counted, wrong, epsilon)[where.reshape(trials, -1)]
        return bool(np.mean(capital.max(axis=1) >= -math.log(allowance.alpha)) >= 0.5)

    return Median(_largest(rejected_by_half), "any number of guesses")


def _largest(holds: Callable[[float], bool]) -> float:
    return last_true(holds, 0.0, 12.0, tolerance=2e-4) if holds(0.0) else 0.0


def _confusion_median(method: Any) -> Callable[[KnownMechanism, int, int, Seeds], Median]:
    """Half the models with the canary; the threshold is the best at the expected counts."""

    def median(mechanism: KnownMechanism, runs: int, trials: int, seeds: Seeds) -> Median:
        side = runs // 2

        def bound(t: int, f: int) -> float:
            counts = ConfusionCounts(t, f, side, side)
            return float(method.epsilon_lower(counts, delta=mechanism.delta, alpha=ALPHA))

        def expected(x: float) -> float:
            t, f = round(side * mechanism.true_positive_rate(x)), side * x
            return bound(t, math.floor(f)) * (1 - f % 1) + bound(t, math.ceil(f)) * (f % 1)

        grid = np.unique(np.concatenate([np.geomspace(0.02 / side, 0.5, 40), np.linspace(0.02, 0.5, 25)])).tolist()
        best = max(grid, key=expected)
        generator = seeds.generator()
        hits = generator.binomial(side, mechanism.true_positive_rate(best), trials)
        alarms = generator.binomial(side, best, trials)
        outcomes, where = np.unique(np.stack([hits, alarms], axis=1), axis=0, return_inverse=True)
        bounds = np.array([bound(t, f) for t, f in outcomes.tolist()])
        return Median(float(np.median(bounds[where.ravel()])), f"FPR {best:.3g}")

    return median


def _rank_median(mechanism: KnownMechanism, runs: int) -> Median:
    """Exact: hits are binomial, and the bound grows with them. The rank that counts as a hit is the best there is."""

    def median(top: int) -> float:
        hits = int(stats.binom.ppf(0.5, runs, mechanism.true_positive_rate(top / POOL)))
        return Rank().epsilon_lower(RankCounts(runs, hits, POOL, top), delta=mechanism.delta, alpha=ALPHA)

    epsilon, top = max((median(top), top) for top in _tops(600))
    return Median(epsilon, f"top {top} of {POOL}")


def _k_ary_median(mechanism: KnownMechanism, slots: int) -> Median:
    """Exact, as for `rank`, over shares of filled slots and ranks."""

    def median(fill: float, top: int) -> float:
        hits = int(stats.binom.ppf(0.5, slots, fill * mechanism.true_positive_rate(top / POOL)))
        counts = SlotCounts(slots, hits, fill, POOL, top)
        return KAry().epsilon_lower(counts, delta=mechanism.delta, alpha=ALPHA)

    fills = (0.05, 0.1, 0.2, 0.3, 0.375, 0.4, 0.5, 0.6)
    epsilon, fill, top = max((median(fill, top), fill, top) for fill in fills for top in _tops(150))
    return Median(epsilon, f"fill {fill:g}, top {top} of {POOL}")


def _tops(count: int) -> list[int]:
    return [int(top) for top in np.unique(np.geomspace(1, 0.4 * POOL, count).astype(int))]


def _sequential_median(mechanism: KnownMechanism, runs: int, trials: int, seeds: Seeds) -> Median:
    """Threshold and share at risk are the best at the expected counts, as the table's are."""
    pairs = runs // 2
    designs = [(x, f) for x in np.geomspace(0.5 / pairs, 0.4, 20).tolist() for f in (0.2, 0.35, 0.5, 0.65, 0.8, 0.9)]
    best_x, best_f = max(designs, key=lambda d: _expected_sequential(mechanism, pairs, *d))
    audits = list(pair_outputs(mechanism, best_x, pairs, trials, seeds))
    share = np.array([best_f])

    def rejected_by_half(epsilon: float) -> bool:
        claims = 0
        for inside, outside in audits:
            capital = sequential.log_capital(inside, outside, epsilon, mechanism.delta, share)
            claims += int(np.sum(capital.max(axis=-1) >= -math.log(ALPHA)))
        return claims >= trials / 2

    return Median(_largest(rejected_by_half), f"FPR {best_x:.3g}, share {best_f:g}")


def _expected_sequential(mechanism: KnownMechanism, pairs: int, x: float, share: float) -> float:
    """The epsilon at which the expected log capital of the forward bets ends at ln(1 / alpha)."""
    y = mechanism.true_positive_rate(x)
    needed = -math.log(ALPHA * sequential.FORWARD)

    def enough(epsilon: float) -> bool:
        gain = share * math.exp(-epsilon)
        hit, both = math.log1p(gain), math.log1p(gain - share)
        growth = y * (1 - x) * hit + x * (1 - y) * math.log1p(-share) + x * y * both
        return pairs * growth >= needed

    return _largest(enough)


_EXACT: dict[str, Callable[[KnownMechanism, int], Median]] = {"rank": _rank_median, "k-ary": _k_ary_median}

_MANY_RUNS: dict[str, Callable[[KnownMechanism, int, int, Seeds], Median]] = {
    "clopper-pearson": _confusion_median(ClopperPearson()),
    "bayesian": _confusion_median(Bayesian()),
    "gdp": _confusion_median(Gdp()),
    "sequential": _sequential_median,
}
