"""Clipped sums of a stack against Opacus's per-sample gradients, layer by layer, for every engine."""

from __future__ import annotations

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows
from leakgauge.trainers.stacked.dense import DenseEngine, dense_engine
from leakgauge.trainers.stacked.engine import OPACUS_SLACK, Engine, StackedBatch
from leakgauge.trainers.stacked.functional import functional_engine
from leakgauge.trainers.stacked.layers import layer_engine

MODELS, WIDTH = 3, 9


def build(name: str) -> nn.Module:
    if name == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(72, 11), nn.ReLU(), nn.Linear(11, 4))
    if name == "strided":
        return nn.Sequential(
            nn.Conv2d(2, 5, (3, 2), stride=2, padding=(1, 0)), nn.ReLU(), nn.Conv2d(5, 6, 2), nn.ReLU(), nn.Flatten(),
            nn.Linear(24, 4),
        )  # fmt: skip
    assert name == "pooled"
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 7, 2), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(7, 4),
    )  # fmt: skip


def modules_of(name: str) -> list[nn.Module]:
    made = []
    for k in range(MODELS):
        with Seeds(4).at(name, k).torch_scope():
            made.append(build(name).double())
    return made


def per_sample(module: nn.Module, features: Tensor, labels: Tensor) -> list[Tensor]:
    """Opacus's gradient of each example's loss by each parameter, (examples, ...)."""
    twin = GradSampleModule(module, loss_reduction="sum")
    torch.autograd.backward(nn.functional.cross_entropy(twin(features), labels, reduction="sum"))
    found = [p.grad_sample.detach().clone() for p in module.parameters()]
    twin.to_standard_module()
    for p in module.parameters():
        p.grad = None
    return found


def batch_of(images: Rows) -> tuple[Tensor, Tensor, StackedBatch]:
    features, labels = torch.from_numpy(images.features).double(), torch.from_numpy(images.labels.copy())
    positions = torch.from_numpy(Seeds(4).at("positions").generator().integers(0, 60, (MODELS, WIDTH)))
    weights = torch.ones(MODELS, WIDTH, dtype=torch.float64)
    weights[1, 6:] = 0
    return features, labels, StackedBatch(positions, labels[positions], weights, [WIDTH, 6, WIDTH], [])


def engines_of(name: str, features: Tensor) -> dict[str, Engine]:
    found = {
        "dense": dense_engine(modules_of(name), features, private=True),
        "layers": layer_engine(modules_of(name), features),
        "functional": functional_engine(modules_of(name), features),
    }
    return {key: engine for key, engine in found.items() if engine is not None}


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("name", ["linear", "strided", "pooled"])
@pytest.mark.parametrize("limit", [1e-3, 1.0, 1e4])
def test_clipped_sums_are_those_of_opacus(name: str, limit: float, images: Rows) -> None:
    features, labels, batch = batch_of(images)
    engines = engines_of(name, features)
    assert list(engines) == ["dense", "layers", "functional"]
    for engine in engines.values():
        into = [torch.full_like(p, 2.0) for p in engine.parameters]
        engine.accumulate_clipped(batch, into, max_norm=limit, beta=0.5, scale=0.25)
        for k, module in enumerate(modules_of(name)):
            real = batch.positions[k][: batch.sizes[k]]
            samples = per_sample(module, features[real], labels[real])
            norms = torch.cat([s.flatten(1) for s in samples], dim=1).norm(dim=1)
            factor = (limit / (norms + OPACUS_SLACK)).clamp(max=1.0)
            for added, sample in zip(into, samples, strict=True):
                expected = 1.0 + 0.25 * torch.einsum("b,b...->...", factor, sample)
                assert torch.allclose(added[k], expected, atol=1e-12, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("name", ["linear", "strided", "pooled"])
def test_norms_of_each_layer_are_those_of_opacus(name: str, images: Rows) -> None:
    features, _, batch = batch_of(images)
    engine = dense_engine(modules_of(name), features, private=True)
    assert isinstance(engine, DenseEngine)
    inputs, gradients = engine._pass(batch, None)
    for number, (a, g) in enumerate(zip(inputs, gradients, strict=True)):
        squared = engine._squared_norms(number, a, g, batch.positions)
        for k, module in enumerate(modules_of(name)):
            samples = per_sample(module, features[batch.positions[k]], batch.labels[k])
            weight, bias = samples[2 * number : 2 * number + 2]
            expected = weight.flatten(1).square().sum(1) + bias.square().sum(1)
            assert torch.allclose(squared[k], expected, atol=1e-13, rtol=1e-11)


@pytest.mark.parametrize("name", ["linear", "strided", "pooled"])
@pytest.mark.parametrize("engine_name", ["dense", "layers", "functional"])
def test_a_broken_model_leaves_its_neighbours_alone(name: str, engine_name: str, images: Rows) -> None:
    features, _, batch = batch_of(images)
    sums = []
    for broken in (False, True):
        engine = engines_of(name, features)[engine_name]
        if broken:
            for p in engine.parameters:
                p[1] = float("nan")
        into = [torch.zeros_like(p) for p in engine.parameters]
        engine.accumulate_clipped(batch, into, max_norm=1.0, beta=0.0, scale=1.0)
        sums.append(into)
    for sound, beside in zip(*sums, strict=True):
        assert torch.equal(sound[[0, 2]], beside[[0, 2]])
        assert not beside[1].isfinite().all()
