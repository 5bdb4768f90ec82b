from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from leakgauge.audit.bounds import OneRun
from leakgauge.audit.design import CoinTrials
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.seeds import Seeds
from leakgauge.benchmarks.peers.coverage import (
    CALLS,
    OUR_CALLS,
    PEER_CALLS,
    CoverageRow,
    Rate,
    compare,
    coverage_rows,
)
from leakgauge.benchmarks.peers.fixtures import coverage_fixture, log_likelihood_ratio
from leakgauge.benchmarks.peers.ours import our_calls, our_outcomes
from leakgauge.benchmarks.peers.outcome import CallOutcome
from leakgauge.benchmarks.peers.planning import PlannedDesign, expected_saturated, mean_one_run, planned_design

DESIGN = PlannedDesign(guesses=700, threshold=0.9, one_sided_threshold=0.95)


def test_the_laplace_fixture_is_exactly_one_dp():
    x = np.linspace(-6, 7, 4001)
    inside, outside = stats.laplace.logpdf(x, loc=1), stats.laplace.logpdf(x, loc=0)
    ratio = log_likelihood_ratio(x, 1.0)
    assert np.allclose(ratio, inside - outside, atol=1e-12)
    assert ratio.max() == pytest.approx(1.0)
    assert ratio.min() == pytest.approx(-1.0)
    assert np.allclose(ratio[(x >= 1)], 1.0)
    assert np.allclose(ratio[(x <= 0)], -1.0)


@pytest.mark.parametrize("delta", [0.0, 1e-5, 0.01, 0.3])
def test_epsilon_at_delta_is_where_the_hockey_stick_meets_delta(delta):
    epsilon = coverage_fixture("laplace", 1, seeds=Seeds(0)).epsilon_at(delta)
    excess, _ = integrate.quad(
        lambda x: max(stats.laplace.pdf(x, 1) - math.exp(epsilon) * stats.laplace.pdf(x), 0.0),
        -10,
        40,
        points=[0, 0.5, 1],
        epsabs=1e-12,
    )
    assert excess == pytest.approx(delta, abs=1e-8)


def test_fixture_scores_follow_their_law():
    # Five tests at 1e-6: a false failure has probability 5e-6 over seeds, and the seed is fixed.
    for name, shift in (("null", 0.0), ("laplace", 1.0)):
        fixture = coverage_fixture(name, 40, seeds=Seeds(1))
        assert fixture.epsilon == shift
        assert fixture.scores.shape == fixture.inside.shape == (40, 1000)
        members, others = fixture.scores[fixture.inside], fixture.scores[~fixture.inside]
        assert stats.kstest(members, stats.laplace(loc=shift).cdf).pvalue > 1e-6
        assert stats.kstest(others, stats.laplace().cdf).pvalue > 1e-6
    assert stats.binomtest(int(fixture.inside.sum()), fixture.inside.size, 0.5).pvalue > 1e-6


def test_unknown_fixture_is_named():
    with pytest.raises(ConfigError, match="gauss"):
        coverage_fixture("gauss", 1, seeds=Seeds(0))


def test_planning_finds_the_saturated_scores_and_shares_no_trial():
    seeds = Seeds(5)
    design = planned_design(seeds=seeds, trials=150)
    # The mean bound is flat around its maximum; 684 scores are expected to be saturated.
    assert abs(design.guesses - expected_saturated(1000)) < 80
    assert 0.7 <= design.threshold <= 1.2
    assert 0.7 <= design.one_sided_threshold <= 1.2
    assert design == planned_design(seeds=seeds, trials=150)
    planning = coverage_fixture("laplace", 3, seeds=seeds.at("planning"))
    reported = coverage_fixture("laplace", 3, seeds=seeds.at("trials"))
    assert not np.isin(planning.scores, reported.scores).any()


def test_saturated_share_by_integration():
    share = 0.5 * sum(stats.laplace(loc=b).sf(1) + stats.laplace(loc=b).cdf(0) for b in (0, 1))
    assert expected_saturated(1000) == pytest.approx(1000 * share)


def test_mean_one_run_agrees_with_the_audits_own_path():
    fixture = coverage_fixture("laplace", 5, seeds=Seeds(2), canaries=60)
    ids = tuple(map(str, range(60)))
    for number in (1, 7, 20, 60):
        naive = [
            OneRun().epsilon_lower(CoinTrials(s, b, ids).count(number), delta=0.0, alpha=0.05)
            for s, b in zip(fixture.scores, fixture.inside, strict=True)
        ]
        assert mean_one_run(fixture, np.array([number]))[0] == pytest.approx(np.mean(naive), abs=1e-9)


def test_our_rows_are_valid_and_the_named_ones_beat_066():
    # 200 trials: a bound whose rate is 0.05 passes 0.05 + 3 SE with probability 0.997 (binomial), ten checks; the mean
    # of the planned one-run bound is 0.85 with standard error 0.007, that of the anytime bound 0.77.
    limits = dict.fromkeys(OUR_CALLS, 200)
    outcomes = []
    for name in ("null", "laplace"):
        fixture = coverage_fixture(name, 200, seeds=Seeds(11))
        outcomes += our_outcomes(fixture, DESIGN, limits, seeds=Seeds(12))
    rows = {row.call: row for row in coverage_rows(outcomes)}
    assert set(rows) == set(OUR_CALLS) == set(our_calls(DESIGN))
    assert {row.verdict for row in rows.values()} == {"valid"}
    assert rows["ours-one-run"].mean > 0.8
    assert rows["ours-one-run-anytime"].mean > 0.7
    assert all(np.isfinite(o.values).all() and min(o.values) >= 0 for o in outcomes)


def test_a_rate_counts_claims_as_the_tool_made_them():
    values = (math.inf, -math.inf, math.nan, 1.0 + 1e-9, 1.2, 0.5)
    rate = Rate.of(CallOutcome("tf-bailey", "laplace", values, 0.1), 1.0)
    assert (rate.trials, rate.claims) == (6, 2)
    assert rate.mean == pytest.approx((1.0 + 1.2 + 0.5) / 3)
    assert Rate(200, 0, 0.0, 0.0).standard_error > 0
    assert Rate(200, 200, 0.0, 0.0).standard_error > 0


@pytest.mark.parametrize(
    ("claims", "trials", "verdict"),
    [(100, 2000, "valid"), (129, 2000, "valid"), (130, 2000, "invalid"), (0, 25, "undecided"), (20, 25, "invalid")],
)
def test_verdicts(claims, trials, verdict):
    # 2000 trials: 0.05 + 3 sqrt(0.05 * 0.95 / 2000) = 0.06462, between 129 and 130 claims.
    good, measured = Rate(trials, 0, 0.0, 0.0), Rate(trials, claims, 0.5, 0.0)
    assert CoverageRow("tf-bailey", {"null": good, "laplace": measured}).verdict == verdict
    assert CoverageRow("tf-bailey", {"null": measured, "laplace": good}).verdict == verdict


def test_a_gdp_bound_is_not_judged_outside_its_family():
    wrong, right = Rate(2000, 2000, 4.0, 0.0), Rate(2000, 0, 0.0, 0.0)
    assert CoverageRow("jax-gdp", {"null": right, "laplace": wrong}).verdict == "valid"
    assert CoverageRow("jax-gdp", {"null": wrong, "laplace": wrong}).verdict == "invalid"


def outcome(call, fixture, value, trials=2000, false=0):
    return CallOutcome(call, fixture, (9.0,) * false + (value,) * (trials - false), 0.001)


def test_comparison_names_the_best_valid_peer_and_can_fail():
    def rows(ours, uninformed, false=0):
        given = {
            "ours-one-run": (ours, false),
            "ours-one-run-anytime": (uninformed, 0),
            "tf-bailey": (0.99, 500),
            "jax-clopper-pearson-bonferroni": (0.66, 0),
            "jax-one-run-explicit": (0.8, 0),
            "jax-raw-counts": (0.95, 0),
        }
        outcomes = [outcome(c, "null", 0.0) for c in given]
        return coverage_rows(outcomes + [outcome(c, "laplace", v, false=f) for c, (v, f) in given.items()])

    result = compare(rows(0.85, 0.75))
    assert result.peer.call == "jax-clopper-pearson-bonferroni"
    assert result.informed_peer.call == "jax-one-run-explicit"
    assert result.ahead
    assert not compare(rows(0.79, 0.75)).ahead  # below the informed peer
    assert not compare(rows(0.85, 0.65)).ahead  # below the uninformed peer
    assert not compare(rows(0.85, 0.75, false=200)).ahead  # ours invalid


def test_a_failed_call_is_a_row_with_its_error():
    failed = CallOutcome("tf-bailey", "null", (), 0.0, "ImportError: sklearn")
    (row,) = coverage_rows([failed, outcome("tf-bailey", "laplace", 1.0)])
    assert row.verdict == "error"
    assert "null: ImportError: sklearn" in row.error
    assert row.to_json()["error"] == row.error
    assert math.isnan(row.mean)


def test_every_call_has_a_row_and_no_name_twice():
    assert not set(PEER_CALLS) & set(OUR_CALLS)
    assert set(CALLS) == set(PEER_CALLS) | set(OUR_CALLS)
    with pytest.raises(ConfigError, match="nobody"):
        coverage_rows([outcome("nobody", "null", 0.0)])
