from __future__ import annotations

import numpy as np
import pytest

from leakgauge.audit.checks.aggregation import (
    AGGREGATION_RULES,
    probe_adaptive_clip,
    probe_aggregation,
    probe_noise_source,
)
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.rules import RULES
from leakgauge.audit.seeds import Seeds


def right(updates, weights, *, generator=Seeds(1).generator()):  # noqa: B008
    values = np.array(updates)
    values[~np.isfinite(values).all(axis=1)] = 0.0
    norms = np.linalg.norm(values, axis=1)
    values *= (1 / np.maximum(norms, 1.0))[:, None]
    return values.mean(axis=0) + 0.1 * generator.standard_normal(values.shape[1])


def outcome(aggregate):
    return {r.rule: r.passed for r in probe_aggregation(aggregate, clip=1.0, clients=5, dimension=6)}


def test_a_right_aggregation_passes_everything():
    seen = outcome(right)
    assert all(seen.values())
    assert set(seen) | {"aggregate.adaptive-clip", "aggregate.integer-buffer"} == set(AGGREGATION_RULES)
    assert set(AGGREGATION_RULES) <= set(RULES)


def test_dividing_by_the_norm_of_a_zero_update():
    def divides(updates, weights):
        return np.mean([u * min(1.0, 1.0 / float(np.sqrt(sum(float(x) ** 2 for x in u)))) for u in updates], axis=0)

    seen = outcome(divides)
    assert seen["aggregate.zero-update"] is False
    assert seen["aggregate.non-finite"] is False


def test_a_missing_clip_and_spreading_nan():
    seen = outcome(lambda updates, weights: np.mean(updates, axis=0))
    assert seen["aggregate.huge-update"] is False
    assert seen["aggregate.non-finite"] is False
    assert seen["aggregate.zero-update"] is True


def test_a_weight_of_zero():
    def harmonic(updates, weights):
        shares = np.array([1 / float(w) for w in weights])
        return shares @ np.array(updates)

    assert outcome(harmonic)["aggregate.weight-zero"] is False


def test_noise_from_a_process_wide_generator():
    assert probe_noise_source(lambda: np.random.normal()).passed is False  # noqa: NPY002
    assert probe_noise_source(lambda: Seeds(1).generator().normal()).passed is True
    import torch

    found = probe_noise_source(lambda: torch.randn(3))
    assert found.passed is False
    assert "torch" in found.detail


def test_the_right_and_the_wrong_sign_of_adaptive_clipping():
    def clip_of(sign):
        state = {"clip": 0.1}

        def step(updates):
            within = np.mean([np.linalg.norm(u) <= state["clip"] for u in updates])
            state["clip"] *= np.exp(-0.2 * sign * (within - 0.5))
            return state["clip"]

        return step

    assert probe_adaptive_clip(clip_of(1), start=0.1, clients=4, dimension=3).passed is True
    wrong = probe_adaptive_clip(clip_of(-1), start=0.1, clients=4, dimension=3)
    assert wrong.passed is False
    assert wrong.measured == pytest.approx(0.1 * np.exp(-1.0))


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="clients >= 2"):
        probe_aggregation(right, clip=1.0, clients=1, dimension=3)
