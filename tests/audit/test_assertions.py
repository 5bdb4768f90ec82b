"""`assert_private` and `assert_no_regression`: what they let pass and what they refuse."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from leakgauge.audit.bounds import OneRun
from leakgauge.audit.comparison import build_baseline, write_baseline
from leakgauge.audit.design import CoinTrials
from leakgauge.audit.errors import ConfigError, IncompatibleError, UnderpoweredWarning
from leakgauge.audit.testing import assert_no_regression, assert_private

CLAIM = {"epsilon": 2.0, "delta": 1e-6, "guesses": 400}


def scores(effect: float, seed: int = 0, n: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inside = rng.random(n) < 0.5
    return rng.normal(size=n) + effect * inside, inside


def test_noise_passes_and_reports_what_it_rests_on():
    values, inside = scores(0.0)
    found = assert_private(values, inside, **CLAIM, control=scores(50.0))
    assert found.judged is not None
    assert found.judged.ceiling > 2.0
    assert found.judged.confidence == 0.999


def test_a_leak_above_the_claim_raises():
    with pytest.raises(AssertionError, match=r"not private: certified epsilon .*claimed 2"):
        assert_private(*scores(6.0), **CLAIM)


def test_the_confidence_decides():
    values, inside = scores(1.35)
    counts = CoinTrials(values, inside, tuple(map(str, range(len(values))))).count(400)
    loose, strict = (OneRun().epsilon_lower(counts, delta=1e-6, alpha=a) for a in (0.1, 0.0001))
    claim = (loose + strict) / 2
    with pytest.raises(AssertionError, match="not private"):
        assert_private(values, inside, claim, 1e-6, guesses=400, confidence=0.9)
    assert_private(values, inside, claim, 1e-6, guesses=400, confidence=0.9999, control=scores(50.0))


def test_a_design_that_cannot_refute_is_no_pass():
    values, inside = scores(0.0)
    with pytest.raises(AssertionError, match="underpowered: even a perfect attack"):
        assert_private(values, inside, 8.0, 1e-6, guesses=400)
    assert_private(values, inside, 8.0, 1e-6, guesses=400, allow_underpowered=True)


def test_a_blind_attack_is_no_pass():
    with pytest.raises(AssertionError, match=r"unprotected twin \(0\)"):
        assert_private(*scores(0.0), **CLAIM, control=scores(0.0, seed=1))


def test_without_a_control_it_warns():
    with pytest.warns(UnderpoweredWarning, match="control="):
        assert_private(*scores(0.0), **CLAIM)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_private(*scores(0.0), **CLAIM, control=scores(50.0))


def test_independent_runs_are_another_design():
    values, inside = scores(6.0)
    with pytest.raises(AssertionError, match="not private"):
        assert_private(values, inside, 1.0, 0.0, design="runs", threshold=3.0)
    with pytest.raises(ConfigError, match="unknown"):
        assert_private(values, inside, 1.0, 0.0, design="unknown")  # type: ignore[arg-type]


@pytest.fixture
def make():
    import importlib.util

    path = Path(__file__).with_name("comparison") / "documents.py"
    spec = importlib.util.spec_from_file_location("leakgauge_assertion_documents", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_regression_from_documents_files_and_folders(make, tmp_path):
    baseline = build_baseline([make.document(s) for s in range(1, 6)])
    write_baseline(baseline, tmp_path / "baseline.json")
    (tmp_path / "audit.json").write_text(json.dumps(make.document(9)))
    assert_no_regression(make.document(9), baseline)
    assert_no_regression(str(tmp_path), str(tmp_path / "baseline.json"))
    with pytest.raises(AssertionError, match="REGRESSED"):
        assert_no_regression(make.document(9, epsilon=5.0), baseline)
    with pytest.raises(IncompatibleError, match="NOT COMPARABLE"):
        assert_no_regression(make.document(9, access=["labels"]), baseline)


def test_no_regression_says_when_nothing_could_be_seen(make):
    effects = (-2.0, 4.0, 0.0, 3.0, -1.0)
    baseline = build_baseline([make.document(s, [make.finding(s, effect=e)]) for s, e in enumerate(effects)])
    run = make.document(9, [make.finding(9, effect=1.0)])
    with pytest.raises(AssertionError, match="UNDERPOWERED"):
        assert_no_regression(run, baseline)
    assert assert_no_regression(run, baseline, allow_underpowered=True).exit_code == 3
