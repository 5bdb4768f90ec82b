"""Coins, guess counts, and that invalid combinations do not construct."""

from __future__ import annotations

import numpy as np
import pytest

from leakgauge.audit.design import CoinTrials, RunTrials, coin_flips, paired_coin_flips
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.seeds import Seeds

SEEDS = Seeds(11).at("coins")


def ids(n: int) -> tuple[str, ...]:
    return tuple(f"r{i}" for i in range(n))


def test_a_coin_depends_on_id_and_model_only():
    whole = coin_flips(ids(50), 3, seeds=SEEDS)
    part = coin_flips(ids(50)[::-1][:20], 2, seeds=SEEDS)
    assert np.array_equal(part.inside, whole.inside[:2, ::-1][:, :20])


def test_coins_are_fair_and_independent_over_models_and_records():
    # 300 models x 2000 records: mean within 5 SE of 1/2 (SE 6.5e-4), pairwise correlations of 300 models within
    # 6 SE (SE 1/sqrt(2000)); false-failure rate below 1e-4.
    inside = coin_flips(ids(2000), 300, seeds=SEEDS).inside
    assert abs(inside.mean() - 0.5) < 5 * 0.5 / np.sqrt(inside.size)
    correlation = np.corrcoef(inside.astype(float)) - np.eye(300)
    assert np.abs(correlation).max() < 6 / np.sqrt(2000)


def test_pairs_are_complementary_and_odd_numbers_refused():
    inside = paired_coin_flips(ids(40), 6, seeds=SEEDS).inside
    assert np.array_equal(inside[1::2], ~inside[0::2])
    assert (inside.sum(axis=0) == 3).all()
    with pytest.raises(ConfigError, match="even"):
        paired_coin_flips(ids(4), 3, seeds=SEEDS)


def test_guesses_are_top_half_and_bottom_half():
    scores = np.arange(10.0)
    inside = np.array([0, 0, 0, 1, 1, 0, 0, 1, 1, 0], dtype=bool)
    counts = CoinTrials(scores, inside, ids(10)).count(5)
    # low two: 0, 1 (both out: correct); high three: 7, 8, 9 (in, in, out: two correct).
    assert (counts.canaries, counts.guesses, counts.correct) == (10, 5, 4)


def test_a_sequence_holds_the_same_guesses_most_confident_first():
    scores = np.arange(10.0)
    inside = np.array([0, 1, 0, 1, 1, 0, 0, 1, 1, 0], dtype=bool)
    trials = CoinTrials(scores, inside, ids(10))
    # Highest (9, out: wrong), lowest (0, out: right), 8 (in: right), 1 (in: wrong), 7 (in: right).
    assert trials.sequence(5).correct == (False, True, True, False, True)
    assert sum(trials.sequence(5).correct) == trials.count(5).correct


def test_ties_are_broken_without_looking_at_the_truth():
    # All scores equal: whatever the truth, the same records are guessed, so flipping it complements the count.
    inside = coin_flips(ids(200), 1, seeds=SEEDS).inside[0]
    a = CoinTrials(np.zeros(200), inside, ids(200)).count(100).correct
    b = CoinTrials(np.zeros(200), ~inside, ids(200)).count(100).correct
    assert a + b == 100


def test_counts_at_a_threshold():
    counts = RunTrials(np.array([3.0, 1.0, 2.0, 0.0]), np.array([True, True, False, False])).count(1.5)
    assert (counts.true_positives, counts.false_positives, counts.members, counts.nonmembers) == (1, 1, 2, 2)


def test_holdout_halves_are_disjoint_and_together_complete():
    scores = np.arange(41.0)
    inside = np.arange(41) % 2 == 0
    a, b = RunTrials(scores, inside).holdout(seeds=SEEDS)
    assert sorted([*a.scores, *b.scores]) == list(scores)


@pytest.mark.parametrize(
    ("scores", "inside", "words"),
    [
        ([1.0, np.nan], [True, False], "NaN"),
        ([1.0, 2.0], [True, True], "both members and non-members"),
    ],
)
def test_bad_trials_do_not_construct(scores, inside, words):
    with pytest.raises(ConfigError, match=words):
        CoinTrials(np.array(scores), np.array(inside), ids(2))


def test_many_run_bounds_are_not_for_records_of_one_model():
    assert not set(CoinTrials.bounds) & set(RunTrials.bounds)


def test_more_guesses_than_canaries_are_refused():
    with pytest.raises(ConfigError, match="got 11"):
        CoinTrials(np.arange(10.0), np.arange(10) % 2 == 0, ids(10)).count(11)
