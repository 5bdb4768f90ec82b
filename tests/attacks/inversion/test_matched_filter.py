"""The matched filter: near the optimum, never above the bound, honest about what it cannot attack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leakgauge.attacks.inversion.matched_filter import MatchedFilter
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.games import Game, Outcome, Stage
from leakgauge.audit.reconstruction import gaussian_success_bound, orthogonal_success
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access, Rows
from leakgauge.trainers.dpsgd import DpSgd


@pytest.fixture(scope="module")
def digits() -> Rows:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    features = (bunch.data / 16).astype(np.float32)
    return Rows(features, bunch.target.astype(np.int64), tuple(map(str, range(len(features)))), 10, "digits")


def private(noise: float) -> DpSgd:
    return DpSgd(model="mlp", hidden=(64,), noise_multiplier=noise, nominal_rows=600)


def play(trainer, rows: Rows, folder: Path, **settings) -> Outcome:
    game = MatchedFilter(**settings)
    everyone = np.ones(len(rows), dtype=bool)
    stage = Stage(trainer, rows, rows, everyone, lambda: None, None, Access.GRADIENTS, "cpu", 0.95, folder)
    return game.play(stage, seeds=Seeds(11))


def test_it_is_a_game():
    assert isinstance(MatchedFilter(), Game)


@pytest.mark.parametrize("noise", [4.0, 2.0, 1.0, 0.5])
def test_real_digits_at_ten_candidates_come_near_the_bound_and_stay_below(noise, digits, tmp_path):
    # 1500 trials of fixed seed. Above the bound by 3 standard errors: once in 700 if the success were at the bound.
    outcome = play(private(noise), digits, tmp_path, labels="distinct")
    found, bound = outcome.measures["success"].value, gaussian_success_bound(0.1, 1 / noise)
    error = np.sqrt(bound * (1 - bound) / 1500)
    assert outcome.measures["largest_possible_success"].value == pytest.approx(bound)
    assert 0.85 * bound <= found <= bound + 3 * error


@pytest.mark.parametrize(
    ("noise", "kind", "candidates"), [(1.0, "orthogonal", 100), (0.5, "orthogonal", 100), (1.0, "simplex", 10)]
)
def test_crafted_candidates_reach_the_optimum(noise, kind, candidates, digits, tmp_path):
    # Within 3 standard errors: fails once in 370 for another seed.
    outcome = play(private(noise), digits, tmp_path, kind=kind, candidates=candidates)
    gain = np.sqrt(candidates / (candidates - 1)) if kind == "simplex" else 1.0
    optimum = orthogonal_success(candidates, gain / noise)
    assert outcome.measures["success"].value == pytest.approx(optimum, abs=3 * np.sqrt(optimum * (1 - optimum) / 1500))
    assert outcome.measures["optimum_for_these_candidates"].value == pytest.approx(optimum)


def test_without_noise_the_candidate_is_always_named_and_the_known_rest_does_not_matter(digits, tmp_path):
    outcome = play(private(1.0).unprotected(), digits, tmp_path, trials=50, batch_rest=20, trained_steps=5)
    assert outcome.measures["success"].value == 1.0
    assert outcome.trials.claim is None
    assert outcome.trials.counts.hits == 50


def test_unknown_records_in_a_secure_sum_hide_the_candidate_and_are_no_privacy(digits, tmp_path):
    # 400 trials: standard errors below .025; the differences tested are above .2.
    alone = play(private(0.5), digits, tmp_path, trials=400, labels="distinct")
    summed = play(private(0.5), digits, tmp_path, trials=400, labels="distinct", unknown_rest=50)
    assert summed.measures["success"].value < alone.measures["success"].value - 0.2
    assert summed.measures["success"].value > 0.1
    # What is promised, and what could be reached at most, is that of the noise alone.
    assert summed.measures["largest_possible_success"] == alone.measures["largest_possible_success"]
    assert summed.trials.claim == alone.trials.claim
    assert "secure sum" in summed.threat
    assert "subtract" in summed.notes[0]


def test_equal_candidates_tie_and_a_tie_is_no_hit(digits, tmp_path):
    same = digits.take(np.zeros(30, dtype=np.int64) + 4)
    twins = Rows(same.features, same.labels, tuple(map(str, range(30))), 10, "twins")
    outcome = play(private(1.0).unprotected(), twins, tmp_path, trials=20)
    assert outcome.measures["success"].value == 0.0


def test_the_plan_knows_what_the_game_will_count(digits, tmp_path):
    game = MatchedFilter(candidates=10, trials=40)
    planned, played = game.planned(private(1.0)), play(private(1.0), digits, tmp_path, trials=40).trials
    assert planned.counts.hits == planned.counts.runs == 40
    assert (planned.delta, planned.claim) == (played.delta, played.claim)


def test_the_same_seed_gives_the_same_hits(digits, tmp_path):
    first, second = (play(private(1.0), digits, tmp_path, trials=60).trials for _ in range(2))
    assert first == second


def test_bad_input_is_named(digits, tmp_path):
    with pytest.raises(ConfigError, match="candidates"):
        MatchedFilter(candidates=1)
    with pytest.raises(ConfigError, match="distinct labels"):
        play(private(1.0), digits, tmp_path, candidates=11, labels="distinct")
    with pytest.raises(ConfigError, match="unknown_rest 900 needs 2700 records"):
        play(private(1.0), digits, tmp_path, unknown_rest=900)
    with pytest.raises(ConfigError, match="do not fit"):
        play(private(1.0), digits, tmp_path, candidates=5000, kind="orthogonal")
    with pytest.raises(IncompatibleError, match="no single step"):
        play(object(), digits, tmp_path)
