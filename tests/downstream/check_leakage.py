"""The downstream project's own tests, run by pytest with LeakGauge's plugin.

Not called test_*: LeakGauge's own test session must not collect it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leakgauge.audit.testing import assert_no_regression, assert_private

HERE = Path(__file__).parent


def test_the_release_keeps_its_promise(audit):
    run = audit("audits/private.toml")
    assert run.verdict == "consistent"
    assert run.finding("direct")["metrics"]["auc"]["value"] > 0.55
    assert audit("audits/private.toml") is run


def test_no_more_leakage_than_before(audit):
    assert_no_regression(audit("audits/private.toml").folder, HERE / "reports" / "baseline.json")


def test_scores_from_elsewhere():
    rng = np.random.default_rng(0)
    inside = rng.random(1000) < 0.5
    assert_private(rng.normal(size=1000), inside, epsilon=2.0, delta=1e-6, guesses=400, control=(inside * 1.0, inside))


@pytest.mark.leakgauge_slow
def test_many_seeds(audit):
    raise AssertionError("slow audits run only with --leakgauge-slow")
