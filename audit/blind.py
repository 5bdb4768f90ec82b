"""The blind baseline: can records alone, without any model, tell members from non-members? Then the split is broken.

An attack that beats chance on such a split shows nothing about the model. Das, Zhang, Tramer 2024 (arXiv 2406.16201)
found it so for eight published data sets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from .errors import ConfigError
from .metrics import SplitScores, auc_interval
from .records import describe
from .seeds import Seeds
from .types import BoolArray, IntArray, Rows

BLOCKS = 4
MOST_RECORDS = 4000
"""More records are sampled: a shift worth the name shows in 3000 test records, and the check stays in seconds."""

Matrix = NDArray[np.float64]
Fit = Callable[[Matrix, BoolArray, Matrix, Seeds], Matrix]


@dataclass(frozen=True, slots=True)
class BlindResult:
    """`separates` when `p_value` < `alpha`: records alone give membership away.

    `p_value` is exact, corrected for the number of classifiers. `auc` with its limits (DeLong, 95 %, corrected for the
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
    """Test whether membership `inside` (records,) can be predicted from `rows`: features, label, norm and position.

    Null hypothesis: membership was drawn without looking at the records or their order (fair coins, coins of any
    other bias, or a fixed number in random places). Records are dealt at random into blocks; a logistic regression and
    a random forest are fitted to the first k blocks and rank block k + 1 for k = 1, 2, 3, so no prediction has seen
    a label of its own block or a later one. In a block with m members the m records ranked highest are called members.
    Given all before and m, members lie in a random place under the null, so the number rightly called is
    hypergeometric with parameters that depend on m alone; over blocks these are independent and their sum has a known
    law. That gives an exact one-sided p-value, doubled for the two classifiers. (Ordinary cross-fitting, where blocks
    train each other, makes predictions dependent and a binomial test of them invalid.)

    Randomness from `seeds` only. `ConfigError` when lengths differ, fewer than 8 records, or one class only.
    """
    truth = np.asarray(inside, dtype=np.bool_)
    _check(rows, truth, alpha)
    chosen = seeds.at("order").generator().permutation(len(rows))[:MOST_RECORDS]
    features, truth = describe(rows, chosen, seeds=seeds.at("features")), truth[chosen]
    blocks = np.array_split(np.arange(len(chosen)), BLOCKS)
    tested = np.concatenate(blocks[1:])
    members = [int(truth[block].sum()) for block in blocks[1:]]
    sizes = [len(block) for block in blocks[1:]]
    results = []
    for name, fit in CLASSIFIERS.items():
        scores = _ranks_ahead(features, truth, blocks, fit, seeds.at(name))
        right = sum(_hits(scores[block], truth[block]) for block in blocks[1:])
        p_value = min(1.0, len(CLASSIFIERS) * chance(sizes, members, right))
        results.append((p_value, name, scores[tested]))
    p_value, name, scores = min(results, key=lambda result: result[0])
    interval = auc_interval(SplitScores.of(scores, truth[tested]), 1 - 0.05 / len(CLASSIFIERS))
    least = min(1.0, len(CLASSIFIERS) * chance(sizes, members, sum(members)))
    return BlindResult(
        interval.value, interval.low, interval.high, p_value, p_value < alpha, len(chosen), alpha, name, least
    )


def chance(sizes: list[int], members: list[int], right: int) -> float:
    """P[sum of X_b >= right], X_b independent Hypergeometric: members among `members[b]` random picks of `sizes[b]`."""
    law = np.ones(1)
    for size, count in zip(sizes, members, strict=True):
        law = np.convolve(law, hypergeom(size, count, count).pmf(np.arange(count + 1)))
    return min(1.0, float(law[right:].sum()))


def _check(rows: Rows, truth: BoolArray, alpha: float) -> None:
    if truth.shape != (len(rows),):
        raise ConfigError(f"blind baseline: inside has shape {truth.shape} for {len(rows)} records")
    if len(rows) < 2 * BLOCKS:
        raise ConfigError(f"blind baseline needs at least {2 * BLOCKS} records, got {len(rows)}")
    if truth.all() or not truth.any():
        raise ConfigError(
            f"blind baseline needs members and non-members, got {int(truth.sum())} of {len(truth)} inside"
        )
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha must lie strictly between 0 and 1, got {alpha}")


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
        one_class = known.all() or not known.any()
        predicted = coin if one_class else fit(features[past], known, features[block], here)
        scores[block[np.lexsort((coin, predicted))]] = (np.arange(len(block)) + 0.5) / len(block)
    return scores


def _hits(scores: Matrix, truth: BoolArray) -> int:
    """Members among the records ranked highest, as many as there are members."""
    members = int(truth.sum())
    return int(truth[np.argsort(scores)[len(truth) - members :]].sum())


def _logistic(known: Matrix, truth: BoolArray, unknown: Matrix, seeds: Seeds) -> Matrix:  # noqa: ARG001
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=0.05, max_iter=200).fit(known, truth)
    return np.asarray(model.decision_function(unknown), dtype=np.float64)


def _forest(known: Matrix, truth: BoolArray, unknown: Matrix, seeds: Seeds) -> Matrix:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(
        100, min_samples_leaf=5, max_depth=10, n_jobs=1, random_state=seeds.integer() % 2**32
    ).fit(known, truth)
    return np.asarray(model.predict_proba(unknown)[:, 1], dtype=np.float64)


CLASSIFIERS: dict[str, Fit] = {"logistic-regression": _logistic, "random-forest": _forest}
