"""Sensitivity and noise probes on a correct aggregator, on Opacus, and on one deliberate mistake each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from leakgauge.audit.checks import failures, probe_noise, probe_sensitivity
from leakgauge.audit.checks.opacus_step import opacus_step
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Adjacency

CLIP, SIGMA, DIVISOR, DIMENSION = 0.5, 1.3, 16.0, 12


@dataclass
class FederatedMean:
    """DP-FedAvg in numpy, right by default; each field is one way to get it wrong."""

    clip: Callable[[np.ndarray], np.ndarray] = lambda g: _clip_rows(g, CLIP)
    divide: Callable[[int], float] = lambda _: DIVISOR
    scale: float = 1.0
    draw: Callable[[np.random.Generator, int], np.ndarray] = lambda rng, d: rng.standard_normal(d)
    noisy: Callable[[int], bool] = lambda _: True
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))

    def __call__(self, gradients: np.ndarray, *, noise: bool) -> np.ndarray:
        total = self.clip(np.nan_to_num(gradients, nan=0.0, posinf=1e30, neginf=-1e30)).sum(axis=0)
        if noise and self.noisy(len(gradients)):
            total = total + self.scale * SIGMA * CLIP * self.draw(self.rng, len(total))
        return total / self.divide(len(gradients))


def _clip_rows(gradients: np.ndarray, clip: float) -> np.ndarray:
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    return gradients * np.minimum(1, clip / np.maximum(norms, 1e-300))


def _probe(step: Any, adjacency: Adjacency = Adjacency.ADD_REMOVE, clip: float = CLIP) -> set[str]:
    sensitivity = probe_sensitivity(
        step, clip=clip, dimension=DIMENSION, divisor=DIVISOR, adjacency=adjacency, seeds=Seeds(0)
    )
    noise = probe_noise(step, noise_multiplier=SIGMA, clip=clip, dimension=DIMENSION, divisor=DIVISOR)
    return {result.rule for result in failures([*sensitivity, *noise])}


@pytest.mark.parametrize("adjacency", list(Adjacency))
def test_a_correct_aggregator_passes_and_its_sensitivity_is_measured_exactly(adjacency: Adjacency) -> None:
    # Fixed seed; the four noise tests are wrong with probability at most 1e-4 each.
    assert _probe(FederatedMean(), adjacency) == set()
    found = probe_sensitivity(
        FederatedMean(), clip=CLIP, dimension=DIMENSION, divisor=DIVISOR, adjacency=adjacency, seeds=Seeds(0)
    )[0]
    expected = CLIP / DIVISOR * (2 if adjacency is Adjacency.REPLACE_ONE else 1)
    assert found.expected == pytest.approx(expected)
    assert found.measured == pytest.approx(expected, rel=1e-9)  # the probe reaches the bound, so it can see a breach


def _batch_clip(gradients: np.ndarray) -> np.ndarray:
    return _clip_rows(gradients.sum(axis=0, keepdims=True), CLIP * max(1, len(gradients)))


def _bias_free(gradients: np.ndarray) -> np.ndarray:
    return np.concatenate([_clip_rows(gradients[:, :-1], CLIP), gradients[:, -1:]], axis=1)


def _mean_clip(gradients: np.ndarray) -> np.ndarray:
    mean = gradients.mean(axis=0, keepdims=True) if len(gradients) else np.zeros((1, DIMENSION))
    return _clip_rows(mean, CLIP) * DIVISOR


_FROZEN = np.random.default_rng(9).standard_normal(DIMENSION)

MISTAKES: dict[str, tuple[FederatedMean, set[str]]] = {
    "no clipping": (FederatedMean(clip=lambda g: g), {"probe.sensitivity"}),
    "clipping norm doubled": (FederatedMean(clip=lambda g: _clip_rows(g, 2 * CLIP)), {"probe.sensitivity"}),
    "the batch is clipped": (FederatedMean(clip=_batch_clip), {"probe.sensitivity"}),
    "the mean is clipped": (FederatedMean(clip=_mean_clip), {"probe.sensitivity"}),
    "each layer clipped alone": (
        FederatedMean(clip=lambda g: np.concatenate([_clip_rows(p, CLIP) for p in np.split(g, 3, axis=1)], axis=1)),
        {"probe.sensitivity"},
    ),
    "bias not clipped": (FederatedMean(clip=_bias_free), {"probe.sensitivity"}),
    "entries clipped, not the norm": (FederatedMean(clip=lambda g: np.clip(g, -CLIP, CLIP)), {"probe.sensitivity"}),
    "realised batch divides": (FederatedMean(divide=lambda n: max(n, 1)), {"probe.sensitivity"}),
    "no noise": (FederatedMean(scale=0.0), {"probe.noise-scale", "probe.noise-fresh"}),
    "noise halved": (FederatedMean(scale=0.5), {"probe.noise-scale"}),
    "noise 15 % short": (FederatedMean(scale=0.85), {"probe.noise-scale"}),
    "one layer without noise": (
        FederatedMean(draw=lambda rng, d: rng.standard_normal(d) * (np.arange(d) < d - 3)),
        {"probe.noise-scale"},
    ),
    "no noise on empty batches": (FederatedMean(noisy=lambda n: n > 0), {"probe.noise-scale"}),
    "noise seed reused": (FederatedMean(draw=lambda _, __: _FROZEN), {"probe.noise-fresh"}),
    "one draw for all layers": (
        FederatedMean(draw=lambda rng, d: np.tile(rng.standard_normal(d // 3), 3)),
        {"probe.noise-shared"},
    ),
    "uniform noise": (
        FederatedMean(draw=lambda rng, d: rng.uniform(-(3**0.5), 3**0.5, d)),
        {"probe.noise-law"},
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_caught_by_its_rule(name: str) -> None:
    step, rules = MISTAKES[name]
    assert rules <= _probe(step)


def test_only_the_right_rules_object() -> None:
    assert _probe(MISTAKES["no clipping"][0]) == {"probe.sensitivity", "probe.non-finite"}
    assert _probe(MISTAKES["noise halved"][0]) == {"probe.noise-scale"}
    assert _probe(MISTAKES["one draw for all layers"][0]) == {"probe.noise-shared"}
    assert _probe(FederatedMean(scale=1.5)) == set()  # more noise than claimed is no fault


def test_carried_over_noise_is_caught() -> None:
    # Correlated noise of the right size and law: half of each draw comes from the step before.
    last = [np.random.default_rng(1).standard_normal(DIMENSION)]

    def carried(rng: np.random.Generator, d: int) -> np.ndarray:
        last.append(0.6 * last[-1] + 0.8 * rng.standard_normal(d))
        return last[-1]

    assert "probe.noise-fresh" in _probe(FederatedMean(draw=carried))


def test_an_unguarded_nan_and_a_failing_empty_batch_are_reported_apart() -> None:
    class Unguarded(FederatedMean):
        def __call__(self, gradients: np.ndarray, *, noise: bool) -> np.ndarray:
            if not len(gradients):
                raise ValueError("empty")
            return super().__call__(gradients, noise=noise) + 0 * gradients.sum(axis=0)

    results = probe_sensitivity(Unguarded(), clip=CLIP, dimension=DIMENSION, divisor=DIVISOR, seeds=Seeds(0))
    by_rule = {r.rule: r for r in results}
    assert by_rule["probe.sensitivity"].passed
    assert by_rule["probe.non-finite"].passed is False
    assert "undefined" in by_rule["probe.non-finite"].detail
    assert by_rule["probe.empty-batch"].passed is False
    assert "ValueError: empty" in by_rule["probe.empty-batch"].detail
    noise = probe_noise(Unguarded(), noise_multiplier=SIGMA, clip=CLIP, dimension=DIMENSION, divisor=DIVISOR)
    assert not failures(noise)


def test_false_alarms_of_the_noise_probe() -> None:
    # 4 tests of level 1e-4 on 300 correct steps: more than one alarm has probability below 0.01.
    alarms = 0
    for seed in range(300):
        step = FederatedMean(rng=np.random.default_rng(seed))
        results = probe_noise(
            step, noise_multiplier=SIGMA, clip=CLIP, dimension=1 + seed % 20, divisor=DIVISOR, steps=60
        )
        alarms += bool(failures(results))
    assert alarms <= 1


def test_opacus_keeps_its_sensitivity_and_noise() -> None:
    step = opacus_step(
        noise_multiplier=SIGMA, max_grad_norm=CLIP, expected_batch_size=16, shapes=[(3, 3), (3,)], seeds=Seeds(2)
    )
    found = {r.rule: r for r in probe_sensitivity(step, clip=CLIP, dimension=12, divisor=16, seeds=Seeds(0))}
    assert found["probe.sensitivity"].passed
    assert found["probe.sensitivity"].measured == pytest.approx(CLIP / 16, rel=1e-4)
    assert found["probe.empty-batch"].passed
    # Opacus 1.6 multiplies an infinite gradient by a clipping factor of zero, which is NaN and shows.
    assert found["probe.non-finite"].passed is False
    assert not failures(probe_noise(step, noise_multiplier=SIGMA, clip=CLIP, dimension=12, divisor=16))


def test_an_opacus_optimizer_that_forgets_the_bias_is_caught() -> None:
    from opacus.optimizers import DPOptimizer

    class NoBiasNoise(DPOptimizer):  # type: ignore[misc]
        def add_noise(self) -> None:
            super().add_noise()
            self.params[-1].grad = self.params[-1].summed_grad.clone()

    step = opacus_step(
        noise_multiplier=SIGMA,
        max_grad_norm=CLIP,
        expected_batch_size=16,
        shapes=[(3, 3), (3,)],
        seeds=Seeds(2),
        optimizer_class=NoBiasNoise,
    )
    results = probe_noise(step, noise_multiplier=SIGMA, clip=CLIP, dimension=12, divisor=16)
    failed = {r.rule: r for r in failures(results)}
    assert "probe.noise-scale" in failed
    assert "coordinate" in failed["probe.noise-scale"].detail


def test_probes_refuse_nonsense() -> None:
    with pytest.raises(ConfigError, match="clip > 0"):
        probe_sensitivity(FederatedMean(), clip=0, dimension=3, seeds=Seeds(0))
    with pytest.raises(ConfigError, match="steps >= 60"):
        probe_noise(FederatedMean(), noise_multiplier=1, clip=1, dimension=3, steps=10)
