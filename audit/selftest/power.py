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

SAFE = 0.47
"""Designs are compared by this quantile of the count: counts are lumpy, and a median on the edge is luck."""

POOL = 10**6


@dataclass(frozen=True, slots=True)
class Median:
    """The median bound over the audits, and the design it was reached with."""

    epsilon: float
    design: str
    resolution: float = 0.0

    @classmethod
    def of_counts(cls, counts: NDArray[Any], bound: Callable[[int], float], design: str) -> Median:
        """Of a bound that grows with an integer count, so that the median bound is the bound of the median count."""
        middle = math.floor(np.median(counts))
        here = bound(middle)
        return cls(here, design, (bound(middle + 1) - here) / 2)


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
        if limit.method in _MANY_RUNS:
            median = _MANY_RUNS[limit.method](mechanism, limit.canaries, drawn, branch.at(limit.method))
        else:
            key = (mechanism.name, limit.canaries)
            if key not in one_run:
                one_run.clear()  # one at a time: each holds up to 100 MB
                one_run[key] = _OneRunAudits.draw(mechanism, limit.canaries, trials, branch.at("one-run"))
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
        resolution=median.resolution,
    )


@dataclass(frozen=True, slots=True)
class _OneRunAudits:
    """Right guesses so far, most confident first, int16 (audits, canaries); in a pilot, their `SAFE` quantiles."""

    mechanism: KnownMechanism
    correct: NDArray[np.int16]
    pilot: Floats

    @classmethod
    def draw(cls, mechanism: KnownMechanism, canaries: int, trials: int, seeds: Seeds) -> _OneRunAudits:
        pilot = _running(mechanism, canaries, min(4000, PILOT // canaries), seeds.at("pilot"))
        safe = np.quantile(pilot, SAFE, axis=0, method="lower").astype(np.float64)
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
    return Median.of_counts(audits.correct[:, best - 1], lambda v: bound(method, best, v), f"{best} guesses")


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
        middle, alarm = math.floor(np.median(hits)), math.floor(np.median(alarms))
        step = bound(min(middle + 1, side), alarm) - bound(middle, alarm)
        return Median(float(np.median(bounds[where.ravel()])), f"FPR {best:.3g}", step / 2)

    return median


def _rank_median(mechanism: KnownMechanism, runs: int, trials: int, seeds: Seeds) -> Median:
    def bound(hits: float, top: int) -> float:
        return Rank().epsilon_lower(RankCounts(runs, int(hits), POOL, top), delta=mechanism.delta, alpha=ALPHA)

    def safe(top: int) -> float:
        return float(stats.binom.ppf(SAFE, runs, mechanism.true_positive_rate(top / POOL)))

    best = max(_tops(), key=lambda top: bound(safe(top), top))
    hits = seeds.generator().binomial(runs, mechanism.true_positive_rate(best / POOL), trials)
    return Median.of_counts(hits, lambda h: bound(min(h, runs), best), f"top {best} of {POOL}")


def _k_ary_median(mechanism: KnownMechanism, slots: int, trials: int, seeds: Seeds) -> Median:
    def bound(hits: float, fill: float, top: int) -> float:
        counts = SlotCounts(slots, int(hits), fill, POOL, top)
        return KAry().epsilon_lower(counts, delta=mechanism.delta, alpha=ALPHA)

    def rate(fill: float, top: int) -> float:
        return fill * mechanism.true_positive_rate(top / POOL)

    grid = [(fill, top) for fill in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6) for top in _tops()]
    best = max(grid, key=lambda design: bound(float(stats.binom.ppf(SAFE, slots, rate(*design))), *design))
    hits = seeds.generator().binomial(slots, rate(*best), trials)
    design = f"fill {best[0]:g}, top {best[1]} of {POOL}"
    return Median.of_counts(hits, lambda h: bound(min(h, slots), *best), design)


def _tops() -> list[int]:
    return [int(top) for top in np.unique(np.geomspace(1, 0.4 * POOL, 90).astype(int))]


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


_MANY_RUNS: dict[str, Callable[[KnownMechanism, int, int, Seeds], Median]] = {
    "clopper-pearson": _confusion_median(ClopperPearson()),
    "bayesian": _confusion_median(Bayesian()),
    "gdp": _confusion_median(Gdp()),
    "rank": _rank_median,
    "k-ary": _k_ary_median,
    "sequential": _sequential_median,
}
