from __future__ import annotations

import math

import numpy as np
import pytest

from leakgauge.audit.effective_noise import effective_noise
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.seeds import Seeds


@pytest.mark.parametrize("noise", [1e-5, 0.108, 1.0, 5.0])
def test_the_interval_covers_the_truth(noise):
    # 400 intervals at 95 %: fewer than 365 hits (binomial) with probability below 1e-3 a case.
    generator = Seeds(1).at(str(noise)).generator()
    hits = 0
    for _ in range(400):
        seen = effective_noise(generator.normal(0, noise, 60), generator.normal(1, noise, 60))
        hits += seen.low <= noise <= seen.high
    assert hits >= 365


def test_the_estimate_is_spread_over_shift():
    # 4000 runs: relative standard error 2.5 %, within 5 of them.
    generator = Seeds(2).generator()
    seen = effective_noise(generator.normal(3, 2, 4000), generator.normal(5, 2, 4000))
    assert seen.value == pytest.approx(1.0, rel=0.13)
    assert seen.shift == pytest.approx(2.0, rel=0.13)


def test_both_ways_to_the_interval_meet():
    # Shifts just below and just above the switch, on the same noise: ends differ by no more than the switch itself.
    noise = Seeds(4).generator().normal(0, 1, (2, 200))
    t = 20.0 * math.sqrt(398 / 100) * noise.std(ddof=1)
    near, far = (effective_noise(noise[0], noise[1] + shift) for shift in (0.97 * t, 1.03 * t))
    assert near.low / near.value == pytest.approx(far.low / far.value, rel=0.01)
    assert near.high / near.value == pytest.approx(far.high / far.value, rel=0.01)


def test_without_noise_it_is_zero_and_without_shift_infinite():
    assert effective_noise(np.zeros(20), np.ones(20)).value == 0.0
    assert effective_noise(np.ones(20), np.ones(20)).value == math.inf


def test_the_upper_end_is_infinite_where_no_shift_is_certain():
    generator = Seeds(3).generator()
    assert effective_noise(generator.normal(size=30), generator.normal(size=30)).high == math.inf


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="at least 10 runs"):
        effective_noise(np.zeros(9), np.ones(20))
    with pytest.raises(ConfigError, match="NaN"):
        effective_noise(np.full(20, np.nan), np.ones(20))
