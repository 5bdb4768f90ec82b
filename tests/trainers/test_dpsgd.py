from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from leakgauge.audit.accounting import dp_sgd_claim
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Adjacency, Job, PrivateTrainer, Rows, StackedTrainer, Unit
from leakgauge.trainers import stacked
from leakgauge.trainers.dpsgd import DpSgd
from leakgauge.trainers.models import ModelSpec, build_model
from leakgauge.trainers.recipe import OptimizerSpec, Protection, Recipe
from leakgauge.trainers.sampling import batch_stream
from leakgauge.trainers.stacked.engine import StackedBatch
from leakgauge.trainers.stacked.functional import functional_engine
from leakgauge.trainers.steps import make_step

BASE: dict[str, Any] = {"batch_size": 6, "epochs": 4, "nominal_rows": 30, "dtype": "float64", "noise_multiplier": 0.8}
MODELS = ["mlp", "cnn", "logistic"]


def distance(one: torch.nn.Module, other: torch.nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("clipping", ["hooks", "ghost"])
def test_equals_a_naive_loop(model: str, clipping: Any, images: Rows, jobs: list[Job]) -> None:
    """Oracle: one example at a time, clip, add, noise, divide by the constant, step by hand."""
    trainer = DpSgd(model=model, clipping=clipping, max_grad_norm=0.7, learning_rate=0.3, **BASE)
    job, c = jobs[0], 0.7
    module = build_model(ModelSpec(model), (2, 6, 6), 4, seeds=job.seeds).double()
    rows = np.flatnonzero(job.inside)
    stream = batch_stream(rows, sampling="poisson", batch_size=6, sample_rate=6 / 30, seeds=job.seeds)
    noise = job.seeds.at("noise").torch_generator()
    parameters = list(module.parameters())
    for batch in stream.take(20).each():
        total = [torch.zeros_like(p) for p in parameters]
        for row in batch:
            x, y = torch.from_numpy(images.features[row : row + 1]).double(), torch.tensor(images.labels[row : row + 1])
            gradient = torch.autograd.grad(cross_entropy(module(x), y), parameters)
            norm = torch.sqrt(sum(g.square().sum() for g in gradient))
            for t, g in zip(total, gradient, strict=True):
                t += g * min(1.0, c / (float(norm) + 1e-6))
        for p, t in zip(parameters, total, strict=True):
            drawn = torch.normal(0.0, 0.8 * c, p.shape, generator=noise, dtype=torch.float64)
            p.data -= 0.3 * (t + drawn) / 6
    trained = trainer.fit(images, job.inside, seeds=job.seeds, device="cpu")
    assert trained.steps == 20
    assert distance(trained.model, module) < 1e-9


@pytest.mark.parametrize("model", MODELS)
def test_ghost_equals_hooks(model: str, images: Rows, jobs: list[Job]) -> None:
    trainer = DpSgd(model=model, **BASE)
    one, other = (
        replace(trainer, clipping=clipping).fit(images, jobs[0].inside, seeds=jobs[0].seeds, device="cpu").model
        for clipping in ("hooks", "ghost")
    )
    assert distance(one, other) < 1e-9


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("clipping", ["hooks", "ghost"])
def test_contribution_of_one_example_is_bounded(model: str, clipping: Any, images: Rows) -> None:
    """One noiseless step of size 1 with a divisor of 1 moves the weights by the clipped gradient itself."""
    spec, plain, norms = ModelSpec(model), OptimizerSpec("sgd", 1.0, 0.0), []
    for limit in (0.01, 0.5, 1e6):
        module = build_model(spec, (2, 6, 6), 4, seeds=Seeds(1)).double()
        recipe = Recipe(spec, plain, 1, 1, "poisson", 10, "float64", Protection(0.0, limit, clipping))
        x = torch.from_numpy(100 * images.features[:1]).double()
        steep = module(x).argmin(1)
        before = [p.detach().clone() for p in module.parameters()]
        make_step(module, recipe, seeds=Seeds(1), device="cpu")(x, steep)
        moved = [p.detach() - b for p, b in zip(module.parameters(), before, strict=True)]
        norms.append(float(torch.sqrt(sum(m.square().sum() for m in moved))))
    assert norms[0] == pytest.approx(0.01, rel=1e-3)
    assert norms[0] <= 0.01
    assert norms[1] <= 0.5
    assert 0.5 < norms[2] < 1e6


@pytest.mark.parametrize("model", [*MODELS, "functional"])
def test_contribution_is_bounded_in_a_stack(model: str, images: Rows) -> None:
    """Adding one row to a batch moves the clipped sum by at most C, in every model of the stack."""
    spec = ModelSpec("mlp" if model == "functional" else model)
    modules = [build_model(spec, (2, 6, 6), 4, seeds=Seeds(k)).double() for k in range(3)]
    features, labels = torch.from_numpy(100 * images.features).double(), torch.from_numpy(images.labels.copy())
    engine = (
        functional_engine(modules, features)
        if model == "functional"
        else stacked._engine(modules, features, private=True)
    )
    assert engine is not None
    positions = torch.arange(30).view(3, 10)
    labels[positions[:, -1]] = torch.stack(
        [m(features[p[-1:]]).argmin(1)[0] for m, p in zip(modules, positions, strict=True)]
    )
    weights = torch.ones(3, 10, dtype=torch.float64)
    sums = []
    for last in (1.0, 0.0):
        weights[:, -1] = last
        batch = StackedBatch(positions, labels[positions], weights, [10] * 3, [])
        into = [torch.zeros_like(p) for p in engine.parameters]
        engine.accumulate_clipped(batch, into, max_norm=0.5, beta=0.0, scale=1.0)
        sums.append(torch.cat([t.flatten(1) for t in into], dim=1))
    moved = (sums[0] - sums[1]).norm(dim=1)
    assert (moved <= 0.5).all()
    assert (moved > 0.49).all()


def test_schedule_follows_the_public_size_only(images: Rows) -> None:
    """Ten rows or fifty: the same steps, the same noise, the same divisor, the same claim."""
    trainer = DpSgd(**BASE)
    for count in (0, 10, 50):
        inside = np.arange(60) < count
        trained = trainer.fit(images, inside, seeds=Seeds(3), device="cpu")
        assert trained.steps == 20
        assert trained.claim == trainer.planned_claim(999)


def test_claim(images: Rows, jobs: list[Job]) -> None:
    trainer = DpSgd(**BASE, delta=1e-4)
    claim = trainer.fit(images, jobs[0].inside, seeds=jobs[0].seeds, device="cpu").claim
    expected = dp_sgd_claim(noise_multiplier=0.8, sample_rate=0.2, steps=20, delta=1e-4)
    assert claim is not None
    assert (claim.epsilon, claim.curve, claim.mechanism) == (expected.epsilon, expected.curve, expected.mechanism)
    assert (claim.adjacency, claim.unit) == (Adjacency.ADD_REMOVE, Unit.RECORD)
    assert any("nominal_rows" in line for line in claim.assumes)


def test_noise_is_calibrated() -> None:
    trainer = DpSgd(epsilon=3.0, delta=1e-5, nominal_rows=900)
    assert trainer.planned_claim(1).epsilon == pytest.approx(3.0, abs=0.01)
    assert trainer.planned_claim(1).epsilon <= 3.0 + 1e-6


def test_expected_rows_stand_in_for_an_open_size() -> None:
    open_size = DpSgd(noise_multiplier=1.0)
    assert open_size.planned_claim(900) == DpSgd(noise_multiplier=1.0, nominal_rows=900).planned_claim(5)
    with pytest.raises(ConfigError, match="dp-sgd needs nominal_rows"):
        open_size.recipe()


def test_twin_differs_by_protection_alone() -> None:
    trainer = DpSgd(**BASE, model="cnn", momentum=0.4, weight_decay=0.1, optimizer="adam", learning_rate=0.02)
    assert trainer.unprotected().recipe() == replace(trainer.recipe(), protection=None)
    assert isinstance(trainer, PrivateTrainer)
    assert isinstance(trainer, StackedTrainer)
    assert not isinstance(trainer.unprotected(), PrivateTrainer)


def test_batch_normalisation_is_refused(tmp_path, monkeypatch, images: Rows, jobs: list[Job]) -> None:
    (tmp_path / "leakgauge_normalised.py").write_text(
        "from torch import nn\n"
        "def build(shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(72, 9), nn.BatchNorm1d(9), nn.Linear(9, classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    trainer = DpSgd(**BASE, model="leakgauge_normalised:build")
    with pytest.raises(IncompatibleError, match="BatchNorm") as caught:
        trainer.fit(images, jobs[0].inside, seeds=jobs[0].seeds, device="cpu")
    assert "\n" not in str(caught.value)
    with pytest.raises(IncompatibleError, match="BatchNorm"):
        trainer.fit_many(images, jobs, device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either epsilon or noise_multiplier"),
        ({"epsilon": 1.0, "noise_multiplier": 1.0}, "either epsilon or noise_multiplier"),
        ({"noise_multiplier": 0.0}, "noise_multiplier must be > 0"),
        ({"epsilon": 1.0, "delta": 1.0}, "delta"),
        ({"epsilon": 1.0, "batch_size": 64, "nominal_rows": 30}, "at most 1"),
        ({"epsilon": 1.0, "clipping": "flat"}, "clipping"),
        ({"epsilon": 1.0, "learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DpSgd(**options)
