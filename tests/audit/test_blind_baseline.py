from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations, product

import numpy as np
import pytest

from leakgauge.audit import blind
from leakgauge.audit.blind import Call, blind_baseline, chance
from leakgauge.audit.blind_features import describe
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows


def rows(features: np.ndarray, *, classes: int = 4, seed: int = 0, name: str = "rows") -> Rows:
    labels = np.random.default_rng(seed).integers(0, classes, len(features))
    return Rows(features, labels, tuple(f"r{i}" for i in range(len(features))), classes, name)


def images(generator: np.random.Generator, n: int = 1200, width: int = 64) -> np.ndarray:
    return generator.normal(size=(n, width)).astype(np.float32)


def test_law_of_right_guesses_equals_enumeration() -> None:
    # Two blocks of 5 with 2 and 3 members, 2 called in each: all 10 x 10 places of the members, calls fixed.
    counts = []
    for first, second in product(combinations(range(5), 2), combinations(range(5), 3)):
        counts.append(len({0, 3} & set(first)) + len({1, 4} & set(second)))
    for right in range(5):
        calls = [Call(5, 2, 2, right), Call(5, 3, 2, 0)]
        assert chance(calls) == pytest.approx(np.mean(np.array(counts) >= right))
    assert chance([Call(5, 0, 0, 0), Call(5, 5, 5, 5)]) == 1.0


def draw_membership(design: str, generator: np.random.Generator, n: int) -> np.ndarray:
    if design == "coins":
        return generator.random(n) < 0.5
    if design == "biased":
        return generator.random(n) < 0.15
    return generator.permutation(n) < n // 2


@pytest.mark.parametrize("design", ["coins", "biased", "half"])
def test_false_alarms_keep_to_their_level(monkeypatch, design) -> None:
    # With one cheap classifier; 250 audits a level: above level + 4 standard errors with probability below 1e-4.
    monkeypatch.setattr(blind, "CLASSIFIERS", {"logistic-regression": blind._logistic})
    generator = np.random.default_rng(31)
    p_values = []
    for trial in range(250):
        data = rows(images(generator, 80, 6), seed=trial)
        p_values.append(blind_baseline(data, draw_membership(design, generator, 80), seeds=Seeds(trial)).p_value)
    for level in (0.02, 0.1, 0.3):
        assert np.mean(np.array(p_values) <= level) <= level + 4 * np.sqrt(level * (1 - level) / 250)


@pytest.mark.slow
def test_false_alarms_of_the_whole_test() -> None:
    generator = np.random.default_rng(32)
    p_values = [
        blind_baseline(rows(images(generator, 200, 8), seed=t), generator.random(200) < 0.5, seeds=Seeds(t)).p_value
        for t in range(300)
    ]
    for level in (0.02, 0.1, 0.3):
        assert np.mean(np.array(p_values) <= level) <= level + 4 * np.sqrt(level * (1 - level) / 300)


@pytest.mark.parametrize("fault", ["brightness", "label", "position", "contrast", "missing"])
def test_planted_shifts_are_caught(fault) -> None:
    generator = np.random.default_rng(33)
    inside = generator.random(1200) < 0.5
    data = rows(images(generator))
    features, labels = data.features.copy(), data.labels.copy()
    if fault == "brightness":
        features[inside] += 0.1
    elif fault == "contrast":
        features[inside] *= 1.1
    elif fault == "missing":
        features[np.ix_(inside & (generator.random(1200) < 0.1), [3])] = np.nan
    elif fault == "label":
        labels = np.where(inside & (generator.random(1200) < 0.4), 0, labels)
    else:
        inside = (np.arange(1200) < 600) ^ (generator.random(1200) < 0.2)
    result = blind_baseline(Rows(features, labels, data.records, 4), inside, seeds=Seeds(1))
    assert result.separates
    assert result.p_value < 0.001


def test_text_is_read_as_tokens() -> None:
    generator = np.random.default_rng(34)
    tokens = generator.integers(0, 5000, size=(800, 40))
    inside = generator.random(800) < 0.5
    assert not blind_baseline(rows(tokens), inside, seeds=Seeds(1)).separates
    tokens[inside, generator.integers(0, 40, inside.sum())] = 7
    result = blind_baseline(rows(tokens), inside, seeds=Seeds(1))
    assert result.separates
    assert result.auc > 0.9


def test_clean_split_passes() -> None:
    generator = np.random.default_rng(35)
    result = blind_baseline(rows(images(generator)), generator.random(1200) < 0.5, seeds=Seeds(1))
    assert not result.separates
    assert result.powered
    assert result.low < 0.5 < result.high
    assert json.loads(json.dumps(result.to_json()))["records"] == 1200


def test_large_data_is_sampled() -> None:
    generator = np.random.default_rng(36)
    inside = generator.random(20_000) < 0.5
    features = images(generator, 20_000, 400).reshape(-1, 20, 20)
    features[inside] += 0.05
    result = blind_baseline(rows(features), inside, seeds=Seeds(1))
    assert result.records == blind.MOST_RECORDS
    assert result.separates


def test_rare_members_are_sampled_as_well() -> None:
    generator = np.random.default_rng(39)
    inside = generator.random(20_000) < 0.01
    features = images(generator, 20_000, 10)
    assert not blind_baseline(rows(features), inside, seeds=Seeds(1)).separates
    features[inside] += 0.5
    assert blind_baseline(rows(features), inside, seeds=Seeds(1)).separates


def test_same_seeds_same_result_and_order_of_streams_does_not_matter() -> None:
    generator = np.random.default_rng(37)
    data, inside = rows(images(generator, 100, 5)), generator.random(100) < 0.5
    assert blind_baseline(data, inside, seeds=Seeds(4)) == blind_baseline(data, inside, seeds=Seeds(4))


def test_wide_features_in_chunks_equal_the_whole(monkeypatch) -> None:
    generator = np.random.default_rng(38)
    data = rows(images(generator, 50, 700))
    chosen = generator.permutation(50)[:40]
    whole = describe(data, chosen, seeds=Seeds(1))
    monkeypatch.setattr("leakgauge.audit.blind_features.CHUNK", 1500)
    assert np.allclose(describe(data, chosen, seeds=Seeds(1)), whole)
    assert whole.shape[0] == 40
    assert whole.shape[1] < 300


def test_tiny_audits_say_that_they_are_blind() -> None:
    result = blind_baseline(rows(np.arange(8.0)[:, None]), np.array([True, False] * 4), seeds=Seeds(1))
    assert not result.powered
    assert not result.separates


def test_bad_input_is_named() -> None:
    data = rows(np.zeros((20, 2), dtype=np.float32))
    with pytest.raises(ConfigError, match="at least 4 members and 4 non-members, got 20 inside of 20"):
        blind_baseline(data, np.ones(20, dtype=bool), seeds=Seeds(1))
    with pytest.raises(ConfigError, match="shape"):
        blind_baseline(data, np.ones(19, dtype=bool), seeds=Seeds(1))
    with pytest.raises(ConfigError, match="got 3 inside of 6"):
        blind_baseline(rows(np.zeros((6, 2))), np.arange(6) < 3, seeds=Seeds(1))
    with pytest.raises(ConfigError, match="alpha"):
        blind_baseline(data, np.arange(20) < 10, seeds=Seeds(1), alpha=0)


def test_import_needs_numpy_and_scipy_only() -> None:
    code = (
        "import sys, leakgauge.audit.blind, leakgauge.audit.metrics, leakgauge.attacks.membership, "
        "leakgauge.attacks.canary; sys.exit(bool({'torch', 'sklearn', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
