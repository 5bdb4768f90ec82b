"""The selftest against independent simulation, and that it can fail."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from leakgauge.audit.bounds import ClopperPearson, ConfusionCounts, GuessCounts, GuessSequence, OneRun, OneRunAnytime
from leakgauge.audit.bounds.dp_sgd_curve import dp_sgd_curve
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.registry import BOUNDS
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.selftest import coverage_line, engine, exact, power, run_selftest, simulated
from leakgauge.audit.selftest.coverage import coverage_summary
from leakgauge.audit.selftest.limits import LIMITS
from leakgauge.audit.selftest.mechanisms import Gaussian, Laplace, RandomizedResponse, SubsampledGaussian
from leakgauge.audit.selftest.report import FalseClaimCell, PowerCell, SelftestReport

MECHANISMS = [
    RandomizedResponse(0.0),
    RandomizedResponse(1.0),
    RandomizedResponse(1.0, 0.05),
    Laplace(1.0),
    Gaussian(2.0),
    SubsampledGaussian(0.1, 1.0, 100),
]


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda m: m.name)
def test_scores_have_the_roc_that_the_mechanism_states(mechanism):
    # 200k draws a side; a deviation above 5 standard errors happens less than once in 10^5 tests.
    generator = Seeds(1).at(mechanism.name).generator()
    size = 200_000
    inside = mechanism.score(np.ones(size, dtype=bool), generator)
    outside = mechanism.score(np.zeros(size, dtype=bool), generator)
    for threshold in np.unique(np.quantile(outside, [0.5, 0.9, 0.99])):
        fpr, tpr = float(np.mean(outside >= threshold)), float(np.mean(inside >= threshold))
        assert tpr == pytest.approx(mechanism.true_positive_rate(fpr), abs=5 * math.sqrt(0.5 / size))


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda m: m.name)
def test_mechanisms_keep_their_epsilon_and_attain_it(mechanism):
    rates = np.concatenate([np.geomspace(1e-10, 0.5, 400), 1 - np.geomspace(1e-10, 0.5, 400)])
    growth = math.exp(mechanism.epsilon)
    excess = [mechanism.true_positive_rate(x) - growth * x for x in rates]
    assert max(excess) <= mechanism.delta * (1 + 5e-3) + 1e-12
    if mechanism.delta and not isinstance(mechanism, RandomizedResponse):
        assert max(excess) >= mechanism.delta * 0.97  # the largest is at one of 800 rates


def test_subsampled_gaussian_law_is_the_accountants_curve():
    # Two computations: an FFT power of one step's law here, dp-accounting's privacy loss distribution there.
    mechanism = SubsampledGaussian()
    curve = dp_sgd_curve(1.0, 0.01, 1000, 5e-4)
    for x in (1e-4, 1e-3, 1e-2, 0.1, 0.3):
        assert curve.inverse(mechanism.true_positive_rate(x)) == pytest.approx(x, rel=2e-3)


def test_exact_confusion_cell_against_full_enumeration(monkeypatch):
    monkeypatch.setattr(exact, "RUNS", 30)
    cell = exact.confusion_cell(ClopperPearson(), RandomizedResponse(1.0), 0.05, 0.0)
    worst = 0.0
    for x in (1 / (1 + math.e), 0.002, 0.01, 0.05, 0.2, 0.5):
        y = RandomizedResponse(1.0).true_positive_rate(x)
        worst = max(
            worst,
            sum(
                stats.binom.pmf(t, 30, y) * stats.binom.pmf(f, 30, x)
                for t in range(31)
                for f in range(31)
                if ClopperPearson().epsilon_lower(ConfusionCounts(t, f, 30, 30), delta=0, alpha=0.05) > 1.0
            ),
        )
    assert cell.rate == pytest.approx(worst, abs=1e-12)


def test_give_away_and_block_laws_against_simulation():
    # 20000 audits: means within 5 standard errors.
    generator = Seeds(2).at("laws").generator()
    epsilon, delta, block, size = 1.0, 1e-3, 5, 20_000
    right = generator.random((size, exact.GUESSES)) < 1 / (1 + math.exp(-epsilon))
    given = generator.binomial(exact.CANARIES, delta, size)
    right[np.arange(exact.GUESSES) < given[:, None]] = True
    law = exact.give_away_law(epsilon, delta)
    assert law.sum() == pytest.approx(1.0)
    mean = float(law @ np.arange(len(law)))
    assert right.sum(axis=1).mean() == pytest.approx(mean, abs=5 * right.sum(axis=1).std() / math.sqrt(size))
    law = exact.block_law(epsilon, 1e-4, block)
    assert law.sum() == pytest.approx(1.0)
    plain = exact.GUESSES / (1 + math.exp(-epsilon))
    gain = exact.CANARIES * 1e-4 / block * block / (1 + math.exp(epsilon))
    assert float(law @ np.arange(len(law))) == pytest.approx(plain + gain)


def test_simulated_claims_are_those_of_the_public_bounds(monkeypatch):
    # Every audit of a small cell again, one by one, through `epsilon_lower`.
    monkeypatch.setattr(simulated, "CANARIES", 80)
    monkeypatch.setattr(simulated, "GUESSES", 30)
    mechanism, alpha, trials, seeds = RandomizedResponse(1.0), 0.2, 300, Seeds(3)
    cells = {c.method: c for c in simulated.one_run_cells(mechanism, alpha, trials, seeds)}
    pooled = anytime = 0
    for right in simulated.guesses(mechanism, 80, trials, seeds):
        for row in right.tolist():
            counts = GuessCounts(80, 30, sum(row[:30]))
            pooled += OneRun().epsilon_lower(counts, delta=0, alpha=alpha) > 1 + 1e-9
            anytime += OneRunAnytime().epsilon_lower(GuessSequence(tuple(row), 80), delta=0, alpha=alpha) > 1 + 1e-9
    assert (cells["one-run"].claims, cells["one-run-anytime"].claims) == (pooled, anytime)
    assert pooled > 20


def test_simulated_audits_depend_on_nothing_but_their_seed():
    mechanism = Gaussian(1.0)
    first = list(simulated.one_run_cells(mechanism, 0.05, 200, Seeds(9)))
    assert first == list(simulated.one_run_cells(mechanism, 0.05, 200, Seeds(9)))


def test_a_bound_that_claims_too_much_fails(monkeypatch):
    # A bound at four times its nominal level must be caught, or the selftest could not fail.
    honest = OneRun.epsilon_lower

    def greedy(self, counts, *, delta, alpha):
        return honest(self, counts, delta=delta, alpha=4 * alpha)

    monkeypatch.setattr(OneRun, "epsilon_lower", greedy)
    law = stats.binom.pmf(np.arange(201), 200, 1 / (1 + math.exp(-1.0)))
    assert not exact._guess_cell(OneRun(), "randomized-response(1)", (1.0, 0.0), 0.05, law).passed
    cells = simulated.one_run_cells(RandomizedResponse(1.0), 0.05, 2000, Seeds(4))
    assert not next(c for c in cells if c.method == "one-run").passed


def test_floating_point_noise_is_caught(monkeypatch):
    # |x| - |x - 1| of Laplace noise rounds differently inside and outside (Mironov 2012): a real leak above epsilon.
    def leaky(self, inside, generator):
        x = inside + generator.laplace(0.0, 1 / self.epsilon, inside.shape)
        return self.epsilon * (np.abs(x) - np.abs(x - 1))

    monkeypatch.setattr(Laplace, "score", leaky)
    cells = {c.method: c for c in simulated.one_run_cells(Laplace(1.0), 0.05, 300, Seeds(5))}
    assert not cells["one-run-anytime"].passed


def test_a_weak_bound_fails_the_power_cell():
    cell = PowerCell("one-run", "gaussian(4)", 4.0, 1000, 1e-5, 1.40, 1.54, 2000, "")
    assert not cell.passed
    assert PowerCell("one-run", "gaussian(4)", 4.0, 1000, 1e-5, 1.46, 1.54, 2000, "").passed


def test_pass_rule_of_a_simulated_cell():
    truth = (1.0, 0.0)
    # 3 standard errors of 5 % over 2000 trials are 1.46 %: 129 claims pass, 130 do not.
    assert FalseClaimCell.counted("one-run", "x", truth, 0.05, 129, 2000).passed
    assert not FalseClaimCell.counted("one-run", "x", truth, 0.05, 130, 2000).passed
    assert FalseClaimCell.counted("bayesian", "x", truth, 0.05, 2000, 2000).passed


def test_power_of_single_cells(monkeypatch):
    wanted = ("one-run", "one-run-anytime", "clopper-pearson", "gdp", "rank", "k-ary")
    monkeypatch.setattr(power, "LIMITS", [c for c in LIMITS if c.epsilon == 4 and c.method in wanted])
    cells = list(power.power_cells([1000], 400, Seeds(6)))
    assert sorted(c.method for c in cells) == sorted(wanted)
    for cell in cells:
        # Not far above either: an unconditional bound well over its limit on a Gaussian mechanism is a bug.
        assert 0.92 * cell.limit <= cell.median <= 1.2 * cell.limit, cell


@pytest.fixture(scope="module")
def report() -> SelftestReport:
    small = (exact, simulated)
    with pytest.MonkeyPatch.context() as patch:
        for module in small:
            patch.setattr(module, "CANARIES", 200)
        patch.setattr(simulated, "PAIRS", 60)
        patch.setattr(engine, "power_cells", lambda canaries, trials, seeds: iter(()))
        steps: list[tuple[int, int]] = []
        result = run_selftest(trials=200, seeds=Seeds(7), progress=lambda done, planned: steps.append((done, planned)))
    assert [done for done, _ in steps] == list(range(1, len(result.false_claims) + 1))
    assert all(done <= planned for done, planned in steps)
    return result


def test_report_holds_every_bound_at_both_levels(report):
    assert {c.method for c in report.false_claims} == set(BOUNDS.built_in)
    assert {c.alpha for c in report.false_claims} == {0.05, 0.001}
    assert {c.trials for c in report.false_claims if c.alpha == 0.001} == {0}
    document = json.loads(json.dumps(report.to_json()))
    assert document["passed"] is report.passed
    assert len(document["false_claims"]) == len(report.false_claims)
    lines = report.table()
    assert len([line for line in lines if line.startswith("one-run ")]) >= 10
    assert any("no promise" in line for line in lines)


def test_coverage_summary_reports_the_worst_cell(report):
    summary = coverage_summary(report, "2026-11-21")
    worst = max(c.rate for c in report.false_claims if c.method == "rank" and c.alpha == 0.05)
    assert summary["methods"]["rank"][0]["worst"] == worst
    assert summary["trials"] == 200
    assert summary["versions"]["numpy"] == np.__version__


def test_coverage_line_of_every_bound():
    for name in BOUNDS.built_in:
        line = coverage_line(name)
        assert line.startswith(name)
        assert "5.0%" in line
        assert "\n" not in line
    assert "never decides" in coverage_line("bayesian")
    with pytest.raises(ConfigError, match="unknown bound 'one-rnu'; did you mean 'one-run'"):
        coverage_line("one-rnu")


def test_too_few_trials_are_refused():
    with pytest.raises(ConfigError, match="at least 200"):
        run_selftest(trials=10, seeds=Seeds(0))


@pytest.mark.slow
def test_the_whole_selftest_passes():
    # All cells at nominal would fail once in several hundred seeds; this seed passes.
    assert run_selftest(trials=2000, seeds=Seeds(0)).passed
