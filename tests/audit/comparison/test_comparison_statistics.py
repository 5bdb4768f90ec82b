"""The statistics of the comparison against oracles: enumeration, scipy.stats, closed testing, simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from leakgauge.audit.comparison.figures import Observation, area, logit_error, measure, proportion, unscaled
from leakgauge.audit.comparison.holm import holm
from leakgauge.audit.comparison.prediction import Prediction
from leakgauge.audit.metrics import SplitScores, auc_interval
from leakgauge.audit.seeds import Seeds


def plain(value: float, variance: float = 0.0) -> Observation:
    return Observation(value, value, variance, math.inf, 1)


@pytest.mark.parametrize(("n", "p"), [(500, 0.5), (500, 0.72), (500, 0.95), (200, 0.1)])
def test_the_arcsine_scale_makes_binomial_variance_constant(n, p):
    counts = np.arange(n + 1)
    law = stats.binom.pmf(counts, n, p)
    scaled = np.array([proportion(int(k), n).scaled for k in counts])
    variance = float(law @ scaled**2 - (law @ scaled) ** 2)
    assert variance == pytest.approx(proportion(1, n).variance, rel=0.05)


def test_scales_can_be_undone():
    for successes in (0, 1, 250, 499, 500):
        assert unscaled("guesses", proportion(successes, 500).scaled, 500) == pytest.approx(successes / 500, abs=1e-9)
    for value in (0.2, 0.5, 0.93):
        assert unscaled("auc", area(value, 0.1, 100, 200).scaled, 200) == pytest.approx(value)
    for better in ("lower", "higher"):
        assert unscaled("measure:psnr", measure(17.5, 1.0, 5, better).scaled, 5, better) == 17.5
    assert measure(20.0, 0.0, 5, "higher").scaled < measure(10.0, 0.0, 5, "higher").scaled


def test_the_error_of_an_auc_is_read_back_from_its_interval():
    rng = np.random.default_rng(3)
    inside = rng.random(800) < 0.5
    split = SplitScores.of(rng.normal(size=800) + inside, inside)
    for confidence in (0.9, 0.95, 0.999):
        interval = auc_interval(split, confidence)
        error = logit_error(interval.low, interval.high, confidence, 400)
        # Hanley and McNeil's normal approximation, as an independent scale.
        rough = math.sqrt(1 / 800 / 3 * 4) / (interval.value * (1 - interval.value))
        assert error == pytest.approx(logit_error(*_limits(split, 0.5), 0.5, 400), rel=1e-6)
        assert 0.3 * rough < error < 3 * rough


def _limits(split, confidence):
    interval = auc_interval(split, confidence)
    return interval.low, interval.high


def test_extreme_figures_stay_finite():
    for observation in (proportion(0, 10), proportion(10, 10), area(1.0, 0.5, 10, 20), area(0.0, 0.5, 10, 20)):
        assert math.isfinite(observation.scaled)
        assert observation.scaled <= observation.perfect


def test_prediction_agrees_with_the_textbook():
    values = [0.1, 0.4, 0.2, 0.9, 0.35]
    prediction = Prediction.of([plain(v) for v in values])
    t = (1.5 - np.mean(values)) / (np.std(values, ddof=1) * math.sqrt(1 + 1 / 5))
    assert prediction.p_value(plain(1.5)) == pytest.approx(stats.t.sf(t, 4))
    low, high = prediction.limits(0.01)
    assert (high + low) / 2 == pytest.approx(np.mean(values))
    assert prediction.p_value(plain(high)) == pytest.approx(0.01)
    assert prediction.p_value(plain(low)) == pytest.approx(0.99)


def test_variance_known_from_counts_is_never_undercut():
    equal = Prediction.of([plain(0.5, 0.04)] * 5)
    assert equal.spread == pytest.approx(0.2)
    wider = equal.error(0.09)
    assert wider == pytest.approx(math.sqrt(0.04 / 5 + 0.09))
    assert equal.error(0.01) == pytest.approx(math.sqrt(0.04 / 5 + 0.04))


def test_false_alarms_of_the_prediction_are_exact_for_normal_seeds():
    # 40000 comparisons at 0.05: five standard deviations are 0.0055, so it fails falsely less than once in a million.
    draws = Seeds(1).generator().normal(size=(40_000, 6)).tolist()
    failed = sum(Prediction.of([plain(v) for v in row[1:]]).p_value(plain(row[0])) <= 0.05 for row in draws)
    assert abs(failed / 40_000 - 0.05) < 0.0055


def test_holm_is_the_closed_bonferroni_test():
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = (rng.random(4) ** 3 * 0.2).tolist()
        decisions = holm(p, 0.05)
        for i in range(4):
            subsets = [s for n in range(1, 5) for s in itertools.combinations(range(4), n) if i in s]
            assert decisions[i].rejected == all(min(p[j] for j in s) <= 0.05 / len(s) for s in subsets)
            assert decisions[i].rejected == (p[i] <= decisions[i].level) == (decisions[i].adjusted <= 0.05)


def test_holm_of_nothing():
    assert holm([], 0.05) == []
