"""The regression benchmark's parts on small sizes."""

from __future__ import annotations

import pytest

from leakgauge.audit.seeds import Seeds
from leakgauge.benchmarks import regression
from leakgauge.benchmarks.regression import Alarms, Detections, fails, law_lines, report
from leakgauge.benchmarks.regression_laws import white_box_run


@pytest.fixture(scope="module")
def pool():
    return [white_box_run(Seeds(i).at("pool"), False) for i in range(7)]


def test_the_exact_law_looks_like_the_real_runs(pool):
    # docs/results/whitebox.md: 359 of 500 right in the median of five real runs; one run's standard deviation is 10.
    right = sorted(run["findings"][0]["bound"]["counts"]["correct"] for run in pool)
    assert 335 < right[3] < 375


def test_half_the_noise_is_found_and_another_seed_is_not(pool):
    assert fails(pool[:5], pool[5], 0.99) == (False, False)
    assert fails(pool[:5], white_box_run(Seeds(1).at("halved"), True), 0.99) == (True, True)


def test_simulated_laws_are_counted(monkeypatch):
    monkeypatch.setattr(regression, "TRIALS", 300)
    lines = law_lines(Seeds(3))
    assert all(line.holds for line in lines if line.binding)
    assert {line.findings for line in lines} == {1, 8}
    assert sum(line.failed for line in lines if not line.binding) > 0


def test_rates_that_break_the_promise_are_seen():
    good = Alarms("a", "simulated", 5, 1, 0.95, 9, 200, True)
    bad = Alarms("a", "simulated", 5, 1, 0.99, 20, 200, True)
    assert (good.holds, bad.holds) == (True, False)
    few = Detections("b", "exact law", 5, 0.99, 94, 100, 100)
    assert not few.holds
    text = report([good, bad], [few])
    assert "| a | simulated | 5 | 1 | 200 | 9 (4.5%) | 20 (10.0%) |" in text
    assert text.count("* NO:") == 2
