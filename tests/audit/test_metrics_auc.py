from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from leakgauge.audit.metrics import SplitScores, auc, auc_interval


def draw(seed: int, *, ties: bool, members: int = 37, nonmembers: int = 53) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    inside = np.arange(members + nonmembers) < members
    scores = generator.normal(size=members + nonmembers) + 0.8 * inside
    order = generator.permutation(len(scores))
    return (np.round(scores) if ties else scores)[order], inside[order]


def naive(scores: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """AUC and DeLong's variance by comparing every member with every non-member."""
    kernel = [[1.0 if x > y else 0.5 if x == y else 0.0 for y in scores[~inside]] for x in scores[inside]]
    psi = np.array(kernel)
    m, n = psi.shape
    theta = psi.mean()
    s10 = ((psi.mean(axis=1) - theta) ** 2).sum() / (m - 1)
    s01 = ((psi.mean(axis=0) - theta) ** 2).sum() / (n - 1)
    return theta, s10 / m + s01 / n


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_auc_and_interval_equal_the_quadratic_definition(seed, ties) -> None:
    scores, inside = draw(seed, ties=ties)
    theta, variance = naive(scores, inside)
    assert auc(scores, inside) == pytest.approx(theta, abs=1e-12)
    assert auc(scores, inside) == pytest.approx(roc_auc_score(inside, scores), abs=1e-12)
    interval = auc_interval(SplitScores.of(scores, inside), 0.9)
    reach = norm.ppf(0.95) * np.sqrt(variance) / (theta * (1 - theta))
    expected = expit([logit(theta) - reach, logit(theta) + reach])
    assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize(("shift", "bound"), [(0.0, 0.935), (1.0, 0.935), (2.5, 0.93)])
def test_coverage_by_simulation(shift, bound) -> None:
    # 3000 trials: standard error 0.004 at 0.95, so `bound` is 3.7 (5) of them below nominal: false failures below 2e-4.
    generator = np.random.default_rng(11)
    truth = norm.cdf(shift / np.sqrt(2))
    covered = 0
    for _ in range(3000):
        split = SplitScores(np.sort(generator.normal(size=60) + shift), np.sort(generator.normal(size=80)))
        interval = auc_interval(split)
        covered += interval.low <= truth <= interval.high
    assert covered / 3000 >= bound


@pytest.mark.parametrize("members", [1, 2, 50])
def test_perfect_separation_is_not_certainty(members) -> None:
    interval = auc_interval(SplitScores(np.full(members, 2.0), np.linspace(0, 1, 40)))
    assert interval.value == interval.high == 1.0
    # 50 members, 40 non-members: 40 disjoint pairs all won.
    assert interval.low == pytest.approx(0.0 if members == 1 else 0.025 ** (1 / min(members, 40)))


def test_all_tied_is_one_half_with_a_wide_interval() -> None:
    interval = auc_interval(SplitScores(np.zeros(30), np.zeros(30)))
    unseen = 1 - 0.025 ** (1 / 30)
    assert (interval.low, interval.value, interval.high) == pytest.approx((0.5 - unseen / 2, 0.5, 0.5 + unseen / 2))


def test_infinite_scores_are_ordered() -> None:
    assert auc([np.inf, -np.inf, 0.0, np.inf], [True, False, False, False]) == pytest.approx(2.5 / 3)
