from __future__ import annotations

import numpy as np
import pytest

from leakgauge.audit.bounds import ClopperPearson, Sequential
from leakgauge.audit.design import RunTrials
from leakgauge.audit.seeds import Seeds
from leakgauge.benchmarks import many_runs


def separation(trials: RunTrials) -> float:
    inside, outside = trials.scores[trials.inside], trials.scores[~trials.inside]
    return float((inside.mean() - outside.mean()) / np.sqrt((inside.var() + outside.var()) / 2))


def test_worst_case_start_keeps_what_an_average_start_forgets() -> None:
    # The mechanism is Gaussian with mu = sqrt(50) / sigma = 1, the most any final model can show. Standard error of a
    # separation over 400 models 0.1; the average start shows about 0.55. Fixed seeds.
    chosen = many_runs.trainers()
    worst = separation(many_runs.collect(chosen[many_runs.WORST], 400, seeds=Seeds(1).at("worst")))
    average = separation(many_runs.collect(chosen[many_runs.AVERAGE], 400, seeds=Seeds(1).at("average")))
    assert 0.7 < worst < 1.3
    assert average < worst - 0.15


def test_a_small_audit_is_below_its_claim_and_its_twin_is_not() -> None:
    chosen = many_runs.trainers()
    claim = chosen[many_runs.WORST].planned_claim(many_runs.ROWS)
    assert claim.epsilon == pytest.approx(4.377, abs=2e-3)
    for case, above in ((many_runs.WORST, False), (many_runs.TWIN, True)):
        seen = many_runs.audit(case, chosen[case], claim, seeds=Seeds(2), runs=500, calibration=100)
        certified = seen.reported.epsilon if above else seen.judged.epsilon
        # 250 perfect runs a side certify 4.2 at 0.95, so the twin is compared with what this size can show.
        assert (certified > 0.95 * seen.reported.ceiling) if above else (certified <= claim.epsilon)
        assert seen.reported.selection.rule == "holdout"


def test_threshold_is_good_on_normal_scores() -> None:
    generator = np.random.default_rng(1)
    inside = np.arange(4000) % 2 == 0
    first, second = (RunTrials(generator.normal(size=4000) + 2 * inside, inside) for _ in range(2))
    chosen = many_runs.choose_threshold(first, 2000, ClopperPearson())
    bounds = {
        float(t): ClopperPearson().epsilon_lower(second.count(t), delta=1e-5, alpha=0.05)
        for t in np.linspace(-2, 5, 200)
    }
    got = ClopperPearson().epsilon_lower(second.count(chosen), delta=1e-5, alpha=0.05)
    assert got > 0.75 * max(bounds.values())


def test_the_growing_audit_takes_pairs_in_the_order_of_training(monkeypatch) -> None:
    monkeypatch.setattr(many_runs, "LOOKS", (20, 40, 1000))
    inside = np.arange(100) % 2 == 0
    seen = many_runs.growing(RunTrials(inside.astype(float), inside), 0.5)
    assert [pairs for pairs, _ in seen] == [20, 40]
    assert 0 < seen[0][1].epsilon < seen[1][1].epsilon
    assert seen[0][1].validity == "anytime"
    assert Sequential.name == seen[0][1].method
