"""False-claim probabilities, enumerated exactly on randomized response: no simulation, no false failures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from leakgauge.audit.bounds import (
    Bayesian,
    ClopperPearson,
    ConfusionCounts,
    Gdp,
    GuessCounts,
    KAry,
    OneRun,
    Rank,
    RankCounts,
    SlotCounts,
)
from leakgauge.audit.bounds.one_run_anytime import log_capital
from leakgauge.audit.seeds import Seeds


def false_claims(bounds: np.ndarray, law: np.ndarray, epsilon: float) -> float:
    """The probability that a bound exceeds the truth, beyond rounding."""
    return float(law[np.asarray(bounds) > epsilon + 1e-9].sum())


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize(("canaries", "guesses"), [(50, 50), (400, 200)])
def test_one_run(alpha, epsilon, canaries, guesses):
    # Each guess on randomized response is right with probability q: the worst case, so the rate comes near alpha.
    law = stats.binom.pmf(np.arange(guesses + 1), guesses, special.expit(epsilon))
    bounds = [
        OneRun().epsilon_lower(GuessCounts(canaries, guesses, v), delta=0, alpha=alpha) for v in range(guesses + 1)
    ]
    assert false_claims(bounds, law, epsilon) <= alpha


@pytest.mark.parametrize("block", [1, 4, 10, 20])
def test_one_run_against_block_give_away(block):
    # (epsilon, delta)-DP mechanism: randomized response, and with probability m delta / block a block is revealed.
    m, delta, epsilon, alpha = 100, 1e-3, 1.0, 0.05
    bounds = np.array([OneRun().epsilon_lower(GuessCounts(m, m, v), delta=delta, alpha=alpha) for v in range(m + 1)])
    q = special.expit(epsilon)
    revealed = m * delta / block
    plain = stats.binom.pmf(np.arange(m + 1), m, q)
    helped = np.concatenate([np.zeros(block), stats.binom.pmf(np.arange(m - block + 1), m - block, q)])
    assert false_claims(bounds, (1 - revealed) * plain + revealed * helped, epsilon) <= alpha


def confusion_law(tpr: float, fpr: float, n: int) -> np.ndarray:
    """(n + 1, n + 1) law of true and false positives."""
    counts = np.arange(n + 1)
    return np.outer(stats.binom.pmf(counts, n, tpr), stats.binom.pmf(counts, n, fpr))


def all_bounds(method, n: int, delta: float, alpha: float) -> np.ndarray:
    return np.array(
        [
            [method.epsilon_lower(ConfusionCounts(t, f, n, n), delta=delta, alpha=alpha) for f in range(n + 1)]
            for t in range(n + 1)
        ]
    )


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("n", [50, 120])
def test_clopper_pearson(alpha, n):
    bounds = all_bounds(ClopperPearson(), n, 0.0, alpha)
    for epsilon in (0.0, 0.5, 1.0, 2.0, 4.0):
        # Three points of the boundary: the corner, and both edges at a small error rate.
        corner = 1 / (1 + math.exp(epsilon))
        for fpr, tpr in ((corner, 1 - corner), (corner / 4, math.exp(epsilon) * corner / 4)):
            assert false_claims(bounds, confusion_law(tpr, fpr, n), epsilon) <= alpha
            assert false_claims(bounds, confusion_law(1 - fpr, 1 - tpr, n), epsilon) <= alpha


@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_clopper_pearson_with_delta(alpha):
    n, epsilon, delta = 60, 1.0, 0.05
    bounds = all_bounds(ClopperPearson(), n, delta, alpha)
    for fpr in (0.0, 0.02, (1 - delta) / (1 + math.e)):
        assert false_claims(bounds, confusion_law(math.e**epsilon * fpr + delta, fpr, n), epsilon) <= alpha


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("mu", [0.5, 1.5])
def test_gdp_on_the_gaussian_mechanism(alpha, mu):
    n, delta = 40, 1e-5
    bounds = np.array(
        [[Gdp().mu_lower(ConfusionCounts(t, f, n, n), alpha=alpha) for f in range(n + 1)] for t in range(n + 1)]
    )
    for threshold in (-0.5, mu / 2, mu + 0.5):
        law = confusion_law(float(special.ndtr(mu - threshold)), float(special.ndtr(-threshold)), n)
        assert false_claims(bounds, law, mu) <= alpha
    assert delta > 0


def test_bayesian_is_not_a_confidence_bound():
    # Theory 1.3: 8.1 % at epsilon 0.5 and n = 50 (nominal 5 %). This is why it never decides.
    n, epsilon = 50, 0.5
    fpr = 1 / (1 + math.exp(epsilon))
    law = confusion_law(1 - fpr, fpr, n)
    likely = np.argwhere(law > 2e-6)
    rate = sum(
        law[t, f]
        for t, f in likely
        if t > f and Bayesian().epsilon_lower(ConfusionCounts(int(t), int(f), n, n), delta=0, alpha=0.05) > epsilon
    )
    assert rate == pytest.approx(0.081, abs=0.002)


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("delta", [0.0, 0.01])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_rank(alpha, delta, epsilon):
    runs, pool, top = 300, 64, 2
    rate = min(1.0, math.exp(epsilon) * top / pool + delta)
    law = stats.binom.pmf(np.arange(runs + 1), runs, rate)
    bounds = [
        Rank().epsilon_lower(RankCounts(runs, hits, pool, top), delta=delta, alpha=alpha) for hits in range(runs + 1)
    ]
    assert false_claims(bounds, law, epsilon) <= alpha


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0])
def test_k_ary_at_its_boundary(alpha, epsilon):
    slots, fill, pool, top = 300, 0.3, 100, 1
    odds = fill / (1 - fill) * math.exp(epsilon) * top / pool
    law = stats.binom.pmf(np.arange(slots + 1), slots, odds / (1 + odds))
    bounds = [
        KAry().epsilon_lower(SlotCounts(slots, hits, fill, pool, top), delta=0, alpha=alpha)
        for hits in range(slots + 1)
    ]
    assert false_claims(bounds, law, epsilon) <= alpha


def test_best_of_many_guess_counts_is_invalid_without_correction():
    # Theory 1.5 (a): this is the mistake that the fixed number of guesses prevents; 4000 trials, standard error 0.7 %.
    rng = Seeds(3).at("best-of").generator()
    m, epsilon, trials = 1000, 1.0, 4000
    right = np.cumsum(rng.random((trials, m)) < special.expit(epsilon), axis=1)
    grid = np.arange(10, m + 1, 10)
    limit = [
        next(v for v in range(r + 1) if OneRun().epsilon_lower(GuessCounts(m, r, v), delta=0, alpha=0.05) > epsilon)
        for r in grid
    ]
    assert np.mean(np.any(right[:, grid - 1] >= limit, axis=1)) > 0.2


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_anytime_false_claims_under_free_stopping(epsilon):
    # 4000 trials at nominal 5 %: a sound bound exceeds 5 % + 4 standard errors (6.4 %) less than once in 10^4 tests.
    rng = Seeds(4).at("anytime", str(epsilon)).generator()
    trials, guesses = 4000, 150
    right = np.cumsum(rng.random((trials, guesses)) < special.expit(epsilon), axis=1)
    wrong = np.arange(1, guesses + 1) - right
    capital = log_capital(right, wrong, epsilon)
    assert np.mean(np.max(capital, axis=1) >= math.log(20)) <= 0.064


def test_gdp_certifies_nothing_on_noise():
    # jax-privacy PR 270: abs() of a negative mu certified 3.54 where there was nothing. Exact: all plausible counts.
    for n in (30, 500):
        for k in range(n + 1):
            assert Gdp().epsilon_lower(ConfusionCounts(k, k, n, n), delta=1e-5, alpha=0.05) == 0.0


def test_random_scores_certify_nothing():
    # Each bound is 0 with probability at least 95 % on coin-flip guesses; 300 repeats, 5 % + 4 standard errors = 10 %.
    rng = Seeds(8).at("null").generator()
    nonzero = np.zeros(3)
    for _ in range(300):
        t, f = (int(x) for x in rng.binomial(500, 0.3, 2))
        confusion = ConfusionCounts(t, f, 500, 500)
        nonzero += [
            OneRun().epsilon_lower(GuessCounts(1000, 200, int(rng.binomial(200, 0.5))), delta=1e-5, alpha=0.05) > 0,
            ClopperPearson().epsilon_lower(confusion, delta=1e-5, alpha=0.05) > 0,
            Gdp().epsilon_lower(confusion, delta=1e-5, alpha=0.05) > 0,
        ]
    assert (nonzero / 300 <= 0.10).all()
