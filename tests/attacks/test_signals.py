from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.special import logsumexp

from leakgauge.attacks.membership import signals
from leakgauge.attacks.membership.signals import SMALLEST, logit, true_class
from leakgauge.audit.errors import ConfigError


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - logsumexp(x, axis=-1, keepdims=True)


def test_signals_equal_their_definitions_in_exact_arithmetic() -> None:
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet(np.ones(5), size=40)
    labels = generator.integers(0, 5, 40)
    exact = []
    for row, label in zip(probabilities, labels, strict=True):
        fractions = [Fraction(float(p)) for p in row]
        exact.append(float(fractions[label] / (sum(fractions) - fractions[label])))
    assert np.allclose(logit(np.log(probabilities), labels), np.log(exact), rtol=1e-12, atol=1e-13)
    assert np.allclose(true_class(np.log(probabilities), labels), np.log(probabilities)[np.arange(40), labels])


def test_logit_keeps_its_precision_where_the_probability_rounds_to_one() -> None:
    logits = np.array([[60.0, 0.0, 1.0], [90.0, 0.0, 1.0]])
    values = log_softmax(logits)
    assert np.exp(values[0, 0]) == 1.0
    expected = logits[:, 0] - np.logaddexp(0.0, 1.0)
    assert np.allclose(logit(values, np.array([0, 0])), expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_chunks_and_memory_maps_change_nothing(tmp_path, monkeypatch, dtype) -> None:
    generator = np.random.default_rng(2)
    values = log_softmax(generator.normal(size=(101, 7)) * 4).astype(dtype)
    labels = generator.integers(0, 7, 101)
    whole = logit(values, labels)
    np.save(tmp_path / "values.npy", values)
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    monkeypatch.setattr(signals, "CHUNK", 50)
    assert np.array_equal(logit(mapped, labels), whole)
    assert np.array_equal(true_class(mapped, labels), true_class(values, labels))


def test_input_is_left_unchanged() -> None:
    values = log_softmax(np.random.default_rng(3).normal(size=(10, 3)))
    before = values.copy()
    logit(values, np.zeros(10, dtype=np.int64))
    assert np.array_equal(values, before)


def test_probability_zero_and_one_stay_finite() -> None:
    values = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
    labels = np.array([0, 0])
    assert logit(values, labels).tolist() == pytest.approx([-SMALLEST, SMALLEST])
    assert true_class(values, labels).tolist() == [0.0, SMALLEST]


@pytest.mark.parametrize("function", [logit, true_class])
@pytest.mark.parametrize(("value", "says"), [(np.nan, "NaN"), (0.7, "log_softmax")])
def test_what_cannot_be_a_log_probability_is_refused(function, value, says) -> None:
    with pytest.raises(ConfigError, match=says):
        function(np.array([[value, -1.0]]), np.array([0]))


def test_one_class_has_no_logit() -> None:
    with pytest.raises(ConfigError, match="at least 2 classes"):
        logit(np.zeros((3, 1)), np.zeros(3, dtype=np.int64))
