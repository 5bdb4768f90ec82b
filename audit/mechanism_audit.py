"""Audit any `mechanism(dataset, rng) -> output` against its claim: many independent runs on two neighbouring data sets.

The runs that fit the score, those that choose the threshold and those that are counted are disjoint, so the bound is
Clopper-Pearson's with a held-out selection and needs nothing of the mechanism: no density, no source, no smoothness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from .accounting import require_comparable
from .bounds.clopper_pearson import ClopperPearson
from .bounds.counts import ConfusionCounts
from .errors import ConfigError
from .mechanism_statistics import Score, StatisticName, fit_statistic
from .seeds import Seeds
from .types import Adjacency, BoolArray, Bound, Claim, FloatArray, Selection, Unit, Verdict
from .verdict import Circumstances, Judgement, judge

Mechanism = Callable[[Any, np.random.Generator], Any]
"""A data set and a source of randomness to an output: a number, a string, or any nesting of lists and mappings."""

CONFIDENCE = 0.95
VIOLATION_CONFIDENCE = 0.999
_FIT_SHARE, _CHOOSE_SHARE = 0.25, 0.25
_THRESHOLDS = 100


@dataclass(frozen=True, slots=True)
class NeighbourPair:
    """Two data sets that differ by one `unit` under `adjacency`; `name` says how."""

    first: Any
    second: Any
    adjacency: Adjacency = Adjacency.ADD_REMOVE
    unit: Unit = Unit.RECORD
    name: str = "given"


@dataclass(frozen=True, slots=True)
class MechanismAudit:
    """What an audit of a mechanism found. `bound` at the reported confidence, `judged` at the deciding one.

    `twin` is the judged bound of the unprotected twin and `negative` that of the mechanism's outputs on one data set
    against each other, which must be 0. `training_runs` and `test_runs` are per data set.
    """

    claim: Claim
    pair: NeighbourPair
    statistic: str
    threshold: float
    bound: Bound
    judged: Bound
    twin: Bound | None
    negative: Bound
    judgement: Judgement
    training_runs: int
    test_runs: int

    @property
    def verdict(self) -> Verdict:
        """The verdict alone."""
        return self.judgement.verdict

    def to_json(self) -> dict[str, Any]:
        """Plain values; the data sets themselves are left out, they may be private."""
        return {
            "verdict": str(self.judgement.verdict),
            "reason": self.judgement.reason,
            "refutes": self.judgement.refutes,
            "claim": {"epsilon": self.claim.epsilon, "delta": self.claim.delta, "adjacency": str(self.claim.adjacency)},
            "pair": self.pair.name,
            "statistic": self.statistic,
            "threshold": self.threshold,
            "bound": self.bound.to_json(),
            "judged": self.judged.to_json(),
            "twin": None if self.twin is None else self.twin.to_json(),
            "negative": self.negative.to_json(),
            "training_runs": self.training_runs,
            "test_runs": self.test_runs,
        }


def audit_mechanism(
    mechanism: Mechanism,
    pairs: NeighbourPair | Sequence[NeighbourPair],
    claim: Claim,
    *,
    runs: int,
    seeds: Seeds,
    statistic: str = "auto",
    delta: float | None = None,
    unprotected: Mechanism | None = None,
    pilot_runs: int | None = None,
) -> MechanismAudit:
    """Run `mechanism` `runs` times on each data set of a pair and judge what its outputs give away against `claim`.

    A quarter of the runs fits the score (`value`, `histogram`, `logistic`, or the best of them with `auto`), a
    quarter chooses the threshold, half are counted. With several `pairs`, `pilot_runs` more (default `runs` / 4) on
    each choose one. `delta` is where the claim is tested (default: the claim's). `unprotected` is the same
    mechanism without noise: only an audit that catches this twin may say `consistent`.

    Outputs are random through `rng` alone or through the mechanism's own source; runs must not share state. Raises
    `ConfigError` for fewer than 40 runs and `IncompatibleError` for a pair of another unit or adjacency.
    """
    if runs < 40:
        raise ConfigError(f"runs must be at least 40 (10 to fit, 10 to choose, 20 to test), got {runs}")
    choices = [pairs] if isinstance(pairs, NeighbourPair) else list(pairs)
    if not choices:
        raise ConfigError("no neighbouring pair given: use propose_pairs or write one down")
    for pair in choices:
        require_comparable(claim, adjacency=pair.adjacency, unit=pair.unit)
    tested = claim.delta if delta is None else delta
    claim.epsilon_at(tested)  # Refuse a delta at which nothing is claimed before spending any run.
    pair = _choose_pair(mechanism, choices, pilot_runs or max(40, runs // 4), statistic, tested, seeds.at("pilot"))
    trial = _Trial.run(mechanism, pair, runs, statistic, tested, seeds.at("mechanism"))
    twin = None
    if unprotected is not None:
        twin_trial = _Trial.run(unprotected, pair, runs, statistic, tested, seeds.at("twin"))
        twin = twin_trial.certify(twin_trial.counts(), VIOLATION_CONFIDENCE)
    negative = trial.certify(trial.null_counts(), VIOLATION_CONFIDENCE)
    judged = trial.certify(trial.counts(), VIOLATION_CONFIDENCE)
    circumstances = Circumstances(
        adjacency=pair.adjacency,
        unit=pair.unit,
        twin_epsilon=None if twin is None else twin.epsilon,
        negative_failed=negative.epsilon > 0,
    )
    return MechanismAudit(
        claim=claim,
        pair=pair,
        statistic=trial.rule.statistic,
        threshold=trial.rule.threshold,
        bound=trial.certify(trial.counts(), CONFIDENCE),
        judged=judged,
        twin=twin,
        negative=negative,
        judgement=judge(claim, judged, circumstances),
        training_runs=runs - trial.test_runs,
        test_runs=trial.test_runs,
    )


def propose_pairs(
    rows: Sequence[Any], adjacency: Adjacency, *, extremes: Sequence[Any] = (), most: int = 16, unit: Unit = Unit.RECORD
) -> list[NeighbourPair]:
    """Neighbouring pairs around `rows`: each row taken away, or replaced by, or joined by each of `extremes`.

    `extremes` are rows at the ends of the domain (the largest value allowed, an empty answer, an outlier): most
    mechanisms leak most there. At most `most` pairs, extremes first; pass them all to `audit_mechanism`.
    """
    base = list(rows)
    pairs = []
    if adjacency is Adjacency.ADD_REMOVE:
        pairs += [NeighbourPair(base, [*base, e], adjacency, unit, f"add extreme {i}") for i, e in enumerate(extremes)]
        removed = [base[:i] + base[i + 1 :] for i in range(len(base))]
        pairs += [NeighbourPair(r, base, adjacency, unit, f"remove row {i}") for i, r in enumerate(removed)]
    elif adjacency is Adjacency.REPLACE_ONE:
        for i in range(len(base)):
            for j, extreme in enumerate(extremes):
                swapped = [*base[:i], extreme, *base[i + 1 :]]
                pairs.append(NeighbourPair(base, swapped, adjacency, unit, f"replace row {i} by extreme {j}"))
    else:
        raise ConfigError(f"no pairs can be proposed under {adjacency}: what a zeroed row is depends on the mechanism")
    if not pairs:
        raise ConfigError(f"no neighbours of {len(base)} rows under {adjacency} without extremes: give some")
    return pairs[:most]


@dataclass(frozen=True, slots=True)
class _Rule:
    """A score and a threshold, both fixed before the test runs. Above the threshold, an output is called D'."""

    statistic: str
    score: Score
    threshold: float
    promise: float

    def calls_second(self, outputs: Sequence[Any]) -> BoolArray:
        return self.score(outputs) > self.threshold


@dataclass(frozen=True, slots=True)
class _Trial:
    """The test runs of one mechanism on one pair, and the rule that was fixed before them."""

    rule: _Rule
    delta: float
    first: BoolArray
    second: BoolArray

    @classmethod
    def run(
        cls, mechanism: Mechanism, pair: NeighbourPair, runs: int, statistic: str, delta: float, seeds: Seeds
    ) -> _Trial:
        training = _training_runs(runs)
        rule = _fit_rule(mechanism, pair, training, statistic, delta, seeds.at("training"))
        first, second = _outputs(mechanism, pair, runs - training, seeds.at("test"))
        return cls(rule, delta, rule.calls_second(first), rule.calls_second(second))

    @property
    def test_runs(self) -> int:
        return len(self.first)

    def counts(self) -> ConfusionCounts:
        return ConfusionCounts(int(self.second.sum()), int(self.first.sum()), len(self.second), len(self.first))

    def null_counts(self) -> ConfusionCounts:
        """Even against odd test runs on the same data set: nothing to find."""
        even, odd = self.first[::2], self.first[1::2]
        return ConfusionCounts(int(even.sum()), int(odd.sum()), len(even), len(odd))

    def certify(self, counts: ConfusionCounts, confidence: float) -> Bound:
        return ClopperPearson().certify(counts, delta=self.delta, confidence=confidence, selection=Selection("holdout"))


def _choose_pair(
    mechanism: Mechanism, pairs: Sequence[NeighbourPair], runs: int, statistic: str, delta: float, seeds: Seeds
) -> NeighbourPair:
    """The pair that promises most on pilot runs of its own; no run is spent where there is no choice."""
    if len(pairs) == 1:
        return pairs[0]
    promises = [_fit_rule(mechanism, pair, runs, statistic, delta, seeds.at(i)).promise for i, pair in enumerate(pairs)]
    return pairs[int(np.argmax(promises))]


def _training_runs(runs: int) -> int:
    return int(runs * (_FIT_SHARE + _CHOOSE_SHARE))


def _fit_rule(
    mechanism: Mechanism,
    pair: NeighbourPair,
    training_runs: int,
    statistic: str,
    delta: float,
    seeds: Seeds,
) -> _Rule:
    """Fit each candidate statistic on the first half of the training runs and keep the best on the second half."""
    first, second = _outputs(mechanism, pair, training_runs, seeds)
    half = int(training_runs * _FIT_SHARE / (_FIT_SHARE + _CHOOSE_SHARE))
    truth = np.repeat([False, True], half)
    names = get_args(StatisticName) if statistic == "auto" else (statistic,)
    rules = []
    for name in names:
        score = fit_statistic(name, [*first[:half], *second[:half]], truth)
        threshold, promise = _best_threshold(score(first[half:]), score(second[half:]), delta)
        rules.append(_Rule(name, score, threshold, promise))
    return max(rules, key=lambda rule: rule.promise)


def _best_threshold(first: FloatArray, second: FloatArray, delta: float) -> tuple[float, float]:
    """The threshold that certifies most on the choosing runs, and that epsilon.

    Their own number, not the larger one of the test, sets the intervals: that holds back thresholds far out in the
    tail, which look good by luck.
    """
    pooled = np.unique(np.concatenate([first, second]))
    spread = np.round(np.linspace(0, len(pooled) - 1, min(_THRESHOLDS, len(pooled)))).astype(int)
    tails = 2 ** np.arange(int(np.log2(len(pooled))) + 1) - 1  # The best cut may leave very few outputs on one side.
    best = (float(pooled[0]), -1.0)
    for threshold in pooled[np.unique([*spread, *tails, *(len(pooled) - 1 - tails)])]:
        hits, alarms = int((second > threshold).sum()), int((first > threshold).sum())
        counts = ConfusionCounts(hits, alarms, len(second), len(first))
        promise = ClopperPearson().epsilon_lower(counts, delta=delta, alpha=1 - VIOLATION_CONFIDENCE)
        if promise > best[1]:
            best = (float(threshold), promise)
    return best


def _outputs(mechanism: Mechanism, pair: NeighbourPair, runs: int, seeds: Seeds) -> tuple[list[Any], list[Any]]:
    """`runs` independent outputs on each data set, each side with a stream of its own."""
    first, second = seeds.at("first").generator(), seeds.at("second").generator()
    return (
        [mechanism(pair.first, first) for _ in range(runs)],
        [mechanism(pair.second, second) for _ in range(runs)],
    )
