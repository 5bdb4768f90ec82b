from __future__ import annotations

import math

import numpy as np
import pytest

from leakgauge.attacks.canary.gradient import GradientCanary, LogLikelihoodRatio, MeasuredRatio
from leakgauge.attacks.canary.gradient_finding import RULE, GradientPlan, gradient_finding
from leakgauge.audit.accounting import dp_sgd_claim
from leakgauge.audit.bounds import GuessCounts
from leakgauge.audit.design import CoinTrials
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.metrics import auc
from leakgauge.audit.types import Adjacency

IDS = tuple(f"canary-{i:06d}" for i in range(1000))


def simulate(inside, rate, noise, steps, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(steps, len(inside))) * noise
    return x + inside * (generator.random(x.shape) < rate)


def test_statistics_equal_their_formulas_cell_by_cell() -> None:
    x = np.random.default_rng(1).normal(size=(7, 3)) * 4
    for q, s in ((0.01, 1.0), (0.3, 0.5), (1.0, 2.0)):
        for name in ("sum", "max", "llr"):
            got = GradientCanary(q, s, name).score(x, ("a", "b", "c")).values
            for column in range(3):
                cells = [float(v) for v in x[:, column]]
                expected = {
                    "sum": sum(cells),
                    "max": max(cells),
                    "llr": sum(math.log(1 - q + q * math.exp((2 * v - 1) / (2 * s * s))) for v in cells),
                }[name]
                assert got[column] == pytest.approx(expected, rel=1e-12)


def test_huge_projections_do_not_overflow() -> None:
    llr = LogLikelihoodRatio(0.01, 0.5)
    llr.update(np.array([1e6, -1e6]))
    assert np.isfinite(llr.scores()).all()
    assert llr.scores()[1] == pytest.approx(math.log(0.99))


def test_measured_noise_is_the_true_one_and_replaces_the_claimed() -> None:
    # 400 x 1000 draws: the measured noise has a standard error of 0.2 %; fixed seed.
    inside = np.random.default_rng(3).random(1000) < 0.5
    x = simulate(inside, 0.01, 0.5, 400)
    measured = MeasuredRatio(0.01, 1.0)
    for step in x:
        measured.update(step)
    assert measured.noise_multiplier == pytest.approx(0.5, rel=0.01)
    oracle = GradientCanary(0.01, 0.5, "llr").score(x, IDS).values
    claimed = GradientCanary(0.01, 1.0, "llr").score(x, IDS).values
    assert np.corrcoef(measured.scores(), oracle)[0, 1] > 0.99
    assert auc(measured.scores(), inside) > auc(claimed, inside) + 0.05


def test_no_noise_at_all_orders_canaries_rightly() -> None:
    inside = np.random.default_rng(3).random(1000) < 0.5
    scores = GradientCanary(0.1, 1.0).score(simulate(inside, 0.1, 0.0, 200), IDS).values
    assert scores[inside].min() > scores[~inside].max()


def test_likelihood_ratio_is_the_best_of_the_three() -> None:
    # 20,000 coins: standard error of an AUC 0.004. Fixed seed.
    inside = np.random.default_rng(3).random(20_000) < 0.5
    x = simulate(inside, 0.02, 0.6, 50)
    names = tuple(map(str, range(len(inside))))
    areas = {k: auc(GradientCanary(0.02, 0.6, k).score(x, names).values, inside) for k in ("sum", "max", "llr")}
    assert areas["llr"] > max(areas["sum"], areas["max"]) + 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0), "sample_rate"),
        ((0.1, 0.0), "noise_multiplier"),
        ((0.1, 1.0, "mean"), "unknown statistic 'mean'"),
    ],
)
def test_bad_attacks_are_refused(arguments, message) -> None:
    with pytest.raises(ConfigError, match=message):
        GradientCanary(*arguments)


@pytest.mark.parametrize("shape", [(0, 3), (3,), (5, 2)])
def test_bad_projections_are_refused(shape) -> None:
    with pytest.raises(ConfigError, match="expected"):
        GradientCanary(0.1, 1.0).score(np.zeros(shape), ("a", "b", "c"))


@pytest.fixture(scope="module")
def claim():
    return dp_sgd_claim(noise_multiplier=1.0, sample_rate=0.01, steps=1000, delta=1e-5)


def finding(claim, scores, inside, **options):
    return gradient_finding(CoinTrials(scores, inside, IDS), claim, GradientPlan(), steps=1000, **options)


def test_finding_verdicts_follow_the_rules_of_evidence(claim) -> None:
    inside = np.random.default_rng(4).random(1000) < 0.5
    right, noise = inside.astype(float), np.random.default_rng(5).random(1000)
    twin = GuessCounts(1000, 200, 200)
    broken = finding(claim, right, inside, twin=twin)
    assert (broken["rule"], broken["verdict"], broken["evidence"]["refutes"]) == (RULE, "violated", "guarantee")
    # Theory note, section 8: perfect guessing gives 2.60 at 0.999.
    assert broken["judged"]["epsilon"] == pytest.approx(2.60, abs=0.005)
    assert "zero-out" in broken["evidence"]["adjacency_statement"]
    assert finding(claim, noise, inside, twin=twin)["verdict"] == "consistent"
    assert finding(claim, noise, inside)["reason"] == "no-positive-control"
    assert finding(claim, noise, inside, twin=GuessCounts(1000, 200, 120))["reason"] == "twin-below-claim"


def test_a_divisor_taken_from_the_rows_leaves_the_add_remove_claim_untested(claim) -> None:
    inside = np.random.default_rng(4).random(1000) < 0.5
    seen = finding(claim, inside.astype(float), inside, fixed_normalisation=False)
    assert (seen["verdict"], seen["reason"]) == ("underpowered", "adjacency-differs")
    public = dp_sgd_claim(noise_multiplier=1.0, sample_rate=0.01, steps=1000, delta=1e-5, adjacency=Adjacency.ZERO_OUT)
    assert finding(public, inside.astype(float), inside, fixed_normalisation=False)["verdict"] == "violated"


def test_too_few_guesses_can_never_object(claim) -> None:
    # Theory note, section 8: with 100 guesses even perfect guessing gives 1.816 < 1.828.
    inside = np.random.default_rng(4).random(1000) < 0.5
    trials = CoinTrials(inside.astype(float), inside, IDS)
    seen = gradient_finding(trials, claim, GradientPlan(guesses=100), steps=1000)
    assert seen["reason"] == "ceiling-below-claim"
    assert seen["judged"]["ceiling"] == pytest.approx(1.816, abs=1e-3)


def test_finding_fits_the_result_document(claim) -> None:
    import json

    import jsonschema

    from leakgauge.reports import schema as module

    inside = np.random.default_rng(4).random(1000) < 0.5
    document = json.loads((__import__("pathlib").Path(module.__file__).parent / "audit.schema.json").read_text())
    checked = {"$ref": "#/$defs/Finding", "$defs": document["$defs"]}
    jsonschema.validate(json.loads(json.dumps(finding(claim, inside * 1.0, inside))), checked)


@pytest.mark.slow
def test_family_bound_is_shown_and_decides_nothing(claim) -> None:
    inside = np.random.default_rng(4).random(1000) < 0.5
    scores = np.where(np.random.default_rng(6).random(1000) < 0.4, inside, 0.5)
    seen = finding(claim, scores.astype(float), inside, family=True)
    assert seen["evidence"]["family_bound"]["null_class"] == "dp-sgd(q=0.01,T=1000)"
    assert seen["bound"]["method"] == "one-run"
