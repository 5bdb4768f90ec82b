from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from leakgauge.audit.errors import ConfigError
from leakgauge.audit.metrics import accuracy_interval, clopper_pearson


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_limits_equal_scipy_s(confidence) -> None:
    for n in (1, 2, 7, 40):
        low, high = clopper_pearson(np.arange(n + 1), n, confidence)
        for k in range(n + 1):
            exact = binomtest(k, n).proportion_ci(confidence, "exact")
            assert low[k] == pytest.approx(exact.low, abs=1e-12)
            assert high[k] == pytest.approx(exact.high, abs=1e-12)


def test_coverage_by_exact_enumeration() -> None:
    for n, p in product((5, 30, 100), (0.001, 0.03, 0.5, 0.97)):
        k = np.arange(n + 1)
        low, high = clopper_pearson(k, n, 0.95)
        assert binom(n, p).pmf(k)[(low <= p) & (p <= high)].sum() >= 0.95


def test_accuracy_interval() -> None:
    interval = accuracy_interval(90, 100)
    assert (interval.value, interval.to_json()["value"]) == (0.9, 0.9)
    assert (interval.low, interval.high) == pytest.approx((0.823777, 0.950995), abs=1e-6)
    assert accuracy_interval(0, 10).low == 0.0
    assert accuracy_interval(10, 10).high == 1.0


@pytest.mark.parametrize(("correct", "n"), [(5, 4), (-1, 4), (0, 0)])
def test_contradicting_counts_are_refused(correct, n) -> None:
    with pytest.raises(ConfigError, match="successes must lie between"):
        accuracy_interval(correct, n)


@pytest.mark.parametrize("confidence", [0, 1, -0.1, 95])
def test_confidence_outside_the_unit_interval_is_refused(confidence) -> None:
    with pytest.raises(ConfigError, match="confidence"):
        accuracy_interval(1, 2, confidence)
