"""The blind baseline: can records alone, without any model, tell members from non-members? Then the split is broken.

An attack that beats chance on such a split shows nothing about the model. Das, Zhang, Tramer 2024 (arXiv 2406.16201)
found it so for eight published data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from .blind_features import describe, describe_words
from .errors import ConfigError
from .metrics import SplitScores, auc_interval
from .seeds import Seeds
from .types import BoolArray, IntArray, Rows

BLOCKS = 4
SHARES = (1.0, 0.1)
WORDS = " of words"
"""Behind the name of a classifier that reads words."""
MOST_RECORDS = 3200
"""More records are sampled: a shift worth the name shows in 2400 test records, and the check stays in seconds."""

Matrix = NDArray[np.float64]
Fit = Callable[[Matrix, BoolArray, Matrix, Seeds], Matrix]


@dataclass(frozen=True, slots=True)
class BlindResult:
    """`separates` when `p_value` < `alpha`: records alone give membership away.

    `p_value` is exact, corrected for the number of tests. `auc` with its limits (DeLong, 95 %, corrected for the
    classifiers, asymptotic) is that of `classifier`, the one with the smaller p-value, on records it was not fitted to:
    a figure to read, not the test. `least_p_value` is what perfect separation would give with so many records: where it
    is not below `alpha` the check could not have failed, and `powered` is False.
    """

    auc: float
    low: float
    high: float
    p_value: float
    separates: bool
    records: int
    alpha: float
    classifier: str
    least_p_value: float

    @property
    def powered(self) -> bool:
        """Whether a perfectly separable split would have been noticed."""
        return self.least_p_value < self.alpha

    def to_json(self) -> dict[str, Any]:
        """All fields and `powered`."""
        return asdict(self) | {"powered": self.powered}


def blind_baseline(rows: Rows, inside: BoolArray, *, seeds: Seeds, alpha: float = 0.001) -> BlindResult:
    """Test whether membership `inside` (records,) can be predicted from `rows`: features, label, norm and position; of
    byte rows also words and runs of characters.

    Null hypothesis: membership was drawn without looking at the records or their order (fair coins, coins of any
    other bias, or a fixed number in random places). Members and non-members are dealt at random and evenly into four
    blocks, which under the null leaves members in random places within each. A logistic regression and a random forest
    are fitted to the first k blocks and rank block k + 1, for k = 1, 2, 3, so no prediction has seen a label of its
    own block or a later one. In a block with m members the m records ranked highest are called members (and, to catch a
    tell that only few members have, the m / 10 highest). Given all before and m, members lie in a random place under
    the null, so the number rightly called is hypergeometric with parameters that depend on m alone; over blocks these
    are independent and their sum has a known law. That gives exact one-sided p-values; the least of the four (two
    classifiers, two cut-offs) is multiplied by four. (Ordinary cross-fitting, where blocks train each other, makes
    predictions dependent and a binomial test of them invalid.)

    Randomness from `seeds` only. `ConfigError` when lengths differ or with fewer than 4 members or non-members.
    """
    truth = np.asarray(inside, dtype=np.bool_)
    _check(rows, truth, alpha)
    dealt = _deal(truth, seeds.at("order"))
    chosen = np.concatenate(dealt)
    tables, truth = _tables(rows, chosen, seeds.at("features")), truth[chosen]
    ends = np.cumsum([0, *map(len, dealt)])
    blocks: list[IntArray] = [np.arange(a, b) for a, b in pairwise(ends.tolist())]
    tested = np.concatenate(blocks[1:])
    outcomes = []
    for suffix, features in tables.items():
        for name, fit in CLASSIFIERS.items():
            scores = _ranks_ahead(features, truth, blocks, fit, seeds.at(name + suffix))
            for share in SHARES:
                calls = [_call(scores[block], truth[block], share) for block in blocks[1:]]
                outcomes.append((chance(calls), name + suffix, scores[tested]))
    least, name, scores = min(outcomes, key=lambda outcome: outcome[0])
    p_value = min(1.0, len(outcomes) * least)
    interval = auc_interval(SplitScores.of(scores, truth[tested]), 1 - 0.05 * len(SHARES) / len(outcomes))
    perfect = chance([_call(truth[block].astype(np.float64), truth[block], 1.0) for block in blocks[1:]])
    return BlindResult(
        auc=interval.value,
        low=interval.low,
        high=interval.high,
        p_value=p_value,
        separates=p_value < alpha,
        records=len(chosen),
        alpha=alpha,
        classifier=name,
        least_p_value=min(1.0, len(outcomes) * perfect),
    )


@dataclass(frozen=True, slots=True)
class Call:
    """In a block of `size` records, `members` of them inside, `called` were called members, `right` of them rightly."""

    size: int
    members: int
    called: int
    right: int


def chance(calls: Sequence[Call]) -> float:
    """P[as many or more rightly called in all] when members lie in random places: a sum of hypergeometric counts."""
    law = np.ones(1)
    for call in calls:
        law = np.convolve(law, hypergeom.pmf(np.arange(call.called + 1), call.size, call.members, call.called))
    return min(1.0, float(law[sum(call.right for call in calls) :].sum()))


def _check(rows: Rows, truth: BoolArray, alpha: float) -> None:
    if truth.shape != (len(rows),):
        raise ConfigError(f"blind baseline: inside has shape {truth.shape} for {len(rows)} records")
    members = int(truth.sum())
    if min(members, len(truth) - members) < BLOCKS:
        raise ConfigError(
            f"blind baseline needs at least {BLOCKS} members and {BLOCKS} non-members, "
            f"got {members} inside of {len(truth)}"
        )
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha must lie strictly between 0 and 1, got {alpha}")


def _tables(rows: Rows, chosen: IntArray, seeds: Seeds) -> dict[str, Matrix]:
    """What the classifiers are fitted to, by what a classifier's name gets behind it."""
    tables = {"": describe(rows, chosen, seeds=seeds)}
    words = describe_words(rows, chosen)
    return tables if words is None else tables | {WORDS: words}


def _deal(truth: BoolArray, seeds: Seeds) -> list[IntArray]:
    """Positions of the records of each block: up to MOST_RECORDS / 2 of each class, dealt evenly, ascending."""
    generator = seeds.generator()
    hands = [generator.permutation(np.flatnonzero(truth == side))[: MOST_RECORDS // 2] for side in (True, False)]
    return [np.sort(np.concatenate([hand[block::BLOCKS] for hand in hands])) for block in range(BLOCKS)]


def _ranks_ahead(features: Matrix, truth: BoolArray, blocks: list[IntArray], fit: Fit, seeds: Seeds) -> Matrix:
    """Rank in (0, 1) of each record within its block, by the classifier fitted to the blocks before; block 0 is 0.

    Equal predictions are ordered at random: in the order of the rows they would say more than the classifier does.
    """
    scores = np.zeros(len(truth))
    for turn in range(1, len(blocks)):
        past, block = np.concatenate(blocks[:turn]), blocks[turn]
        here = seeds.at(turn)
        coin = here.at("ties").generator().random(len(block))
        known = truth[past]
        predicted = fit(features[past], known, features[block], here)
        scores[block[np.lexsort((coin, predicted))]] = (np.arange(len(block)) + 0.5) / len(block)
    return scores


def _call(scores: Matrix, truth: BoolArray, share: float) -> Call:
    """Call the records ranked highest: `share` times as many as there are members."""
    members = int(truth.sum())
    called = round(share * members)
    highest = np.argsort(scores, kind="stable")[len(truth) - called :]
    return Call(len(truth), members, called, int(truth[highest].sum()))


def _logistic(known: Matrix, truth: BoolArray, unknown: Matrix, seeds: Seeds) -> Matrix:  # noqa: ARG001
    from sklearn.linear_model import LogisticRegression

    if known.shape[1] > len(known):
        # The penalised solution lies in the span of the records, so that their own coordinates say all there is.
        span, _ = np.linalg.qr(known.T)
        known, unknown = known @ span, unknown @ span
    model = LogisticRegression(C=0.05, solver="newton-cholesky").fit(known, truth)
    return np.asarray(model.decision_function(unknown), dtype=np.float64)


def _forest(known: Matrix, truth: BoolArray, unknown: Matrix, seeds: Seeds) -> Matrix:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(
        100, min_samples_leaf=5, max_depth=10, n_jobs=1, random_state=seeds.integer() % 2**32
    ).fit(known, truth)
    return np.asarray(model.predict_proba(unknown)[:, 1], dtype=np.float64)


CLASSIFIERS: dict[str, Fit] = {"logistic-regression": _logistic, "random-forest": _forest}
