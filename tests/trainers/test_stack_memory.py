"""Chunks of a stack follow from a budget of bytes; what no engine can batch is trained one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from leakgauge.audit.errors import ConfigError
from leakgauge.audit.types import Job, Rows
from leakgauge.trainers import stacked
from leakgauge.trainers.dpsgd import DpSgd
from leakgauge.trainers.sgd import Sgd
from leakgauge.trainers.stacked import loop, memory
from leakgauge.trainers.stacked.dense import dense_engine
from leakgauge.trainers.stacked.functional import functional_engine
from leakgauge.trainers.stacked.layers import layer_engine

OPTIONS: dict[str, Any] = {"batch_size": 6, "epochs": 4, "nominal_rows": 30, "dtype": "float64", "learning_rate": 0.05}


def layers(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(72, width), nn.ReLU(), nn.Linear(width, 4))


@pytest.mark.parametrize("models", [1, 2, 5])
def test_budget_decides_the_chunks(models: int, images: Rows, jobs: list[Job], monkeypatch) -> None:
    recipe, started = Sgd(**OPTIONS).recipe(), []
    start = loop.Stack.start
    monkeypatch.setattr(loop.Stack, "start", lambda *a: started.append(len(a[1])) or start(*a))
    module = stacked.build_model(recipe.model, (2, 6, 6), 4, seeds=jobs[0].seeds).double()
    engine = dense_engine([module], torch.from_numpy(images.features).double(), private=False)
    assert engine is not None
    budget = models * memory.bytes_per_model(recipe, engine)
    fitted = stacked.fit_stack(recipe, images, jobs, device="cpu", memory=budget)
    assert max(started) <= models
    assert sum(started) == len(jobs)
    assert len(started) == -(-len(jobs) // models)
    whole = stacked.fit_stack(recipe, images, jobs, device="cpu")
    for one, other in zip(fitted, whole, strict=True):
        for p, q in zip(one.module.parameters(), other.module.parameters(), strict=True):
            assert torch.allclose(p, q, atol=1e-10, rtol=0)


def test_a_model_larger_than_the_budget_trains_alone(images: Rows, jobs: list[Job]) -> None:
    recipe = Sgd(**OPTIONS).recipe()
    assert len(stacked.fit_stack(recipe, images, jobs[:2], device="cpu", memory=1)) == 2
    with pytest.raises(ConfigError, match="memory must be a positive number of bytes, got 0"):
        stacked.fit_stack(recipe, images, jobs[:2], device="cpu", memory=0)


def test_estimate_grows_with_what_is_held(images: Rows) -> None:
    features = torch.from_numpy(images.features)
    plain = Sgd(**OPTIONS).recipe()
    narrow = dense_engine([layers(8)], features, private=False)
    wide = dense_engine([layers(80)], features, private=False)
    assert narrow is not None
    assert wide is not None
    small = memory.bytes_per_model(plain, narrow)
    assert memory.bytes_per_model(plain, wide) > 5 * small
    assert memory.bytes_per_model(Sgd(**OPTIONS, optimizer="adam").recipe(), narrow) > small
    assert memory.bytes_per_model(Sgd(**{**OPTIONS, "batch_size": 30}).recipe(), narrow) > small
    assert memory.bytes_per_model(DpSgd(**OPTIONS, noise_multiplier=1.0).recipe(), narrow) > small
    by_func = functional_engine([layers(8)], features)
    assert by_func is not None
    assert by_func.values(6) >= 6 * 2 * sum(p.numel() for p in layers(8).parameters())


def test_estimate_covers_what_the_dense_engine_holds(images: Rows) -> None:
    """The buffers of a real step; those of temporary results are shared by layers and estimated once each."""
    features = torch.from_numpy(images.features)
    module = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(45, 30), nn.ReLU(),
        nn.Linear(30, 4),
    )  # fmt: skip
    engine = dense_engine([module], features, private=False)
    assert engine is not None
    positions = torch.arange(16)[None]
    batch = stacked.loop.StackedBatch(positions, torch.zeros_like(positions), None, [16], [])
    engine.accumulate(batch, [torch.zeros_like(p) for p in engine.parameters], beta=0.0, scale=1.0)
    held = sum(len(buffer) for buffer in engine._memory.values())
    assert held <= engine.values(16) <= 3 * held


def test_memory_of_the_machine_bounds_the_default(monkeypatch) -> None:
    assert memory.default_budget("cpu") == memory.BYTES["cpu"]
    monkeypatch.setattr(memory.os, "sysconf", lambda name: {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}[name])
    assert memory.default_budget("cpu") == 1_024_000


MODULES = """
from torch import nn

class Branching(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.first, self.last = nn.Linear(72, 9), nn.Linear(9, classes)
    def forward(self, x):
        h = self.first(x.flatten(1))
        return self.last(h.relu() if h.sum() > 0 else h.tanh())

class Functional(Branching):
    def forward(self, x):
        return self.last(nn.functional.dropout(self.first(x.flatten(1)).relu(), 0.3, self.training))

def branching(shape, classes):
    return Branching(shape, classes)

def dropping(shape, classes):
    return Functional(shape, classes)

def normalised(shape, classes):
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, classes))

def shared(shape, classes):
    twice = nn.Linear(72, 72)
    return nn.Sequential(nn.Flatten(), twice, nn.ReLU(), twice, nn.ReLU(), nn.Linear(72, classes))

def tied(shape, classes):
    first, second = nn.Linear(72, 72), nn.Linear(72, 72)
    second.weight = first.weight
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), nn.Linear(72, classes))
"""


@pytest.mark.parametrize("name", ["branching", "dropping", "normalised", "shared"])
def test_what_cannot_be_batched_trains_one_by_one(
    name: str, images: Rows, jobs: list[Job], tmp_path, monkeypatch
) -> None:
    (tmp_path / "leakgauge_unbatched_models.py").write_text(MODULES)
    monkeypatch.syspath_prepend(tmp_path)
    trainer = Sgd(**OPTIONS, model=f"leakgauge_unbatched_models:{name}")
    module = stacked.build_model(trainer.recipe().model, (2, 6, 6), 4, seeds=jobs[0].seeds).double()
    features = torch.from_numpy(images.features).double()
    assert dense_engine([module], features, private=False) is None
    assert layer_engine([module], features) is None
    assert functional_engine([module], features) is None
    reports: list[tuple[int, int]] = []
    models = trainer.fit_many(images, jobs[:2], device="cpu", progress=lambda *seen: reports.append(seen))
    assert reports == [(1, 2), (2, 2)]
    for job, model in zip(jobs[:2], models, strict=True):
        alone = trainer.fit(images, job.inside, seeds=job.seeds, device="cpu")
        for p, q in zip(model.model.parameters(), alone.model.parameters(), strict=True):
            assert torch.equal(p, q)


def test_tied_weights_go_through_functional(images: Rows, jobs: list[Job], tmp_path, monkeypatch) -> None:
    """One tensor in two layers is batched; one layer in two places is not (see the test above)."""
    (tmp_path / "leakgauge_tied_models.py").write_text(MODULES)
    monkeypatch.syspath_prepend(tmp_path)
    trainer = Sgd(**OPTIONS, model="leakgauge_tied_models:tied")
    module = stacked.build_model(trainer.recipe().model, (2, 6, 6), 4, seeds=jobs[0].seeds).double()
    features = torch.from_numpy(images.features).double()
    assert type(stacked._engine([module], features, private=False)).__name__ == "FunctionalEngine"
    models = trainer.fit_many(images, jobs[:2], device="cpu")
    for job, model in zip(jobs[:2], models, strict=True):
        alone = trainer.fit(images, job.inside, seeds=job.seeds, device="cpu")
        assert model.model[1].weight is model.model[3].weight
        for p, q in zip(model.model.parameters(), alone.model.parameters(), strict=True):
            assert torch.allclose(p, q, atol=1e-10, rtol=0)


@pytest.mark.parametrize("images_are", ["drawn", "blank"])
@pytest.mark.parametrize("private", [False, True])
def test_pooling_parity_with_ties(images_are: str, private: bool, images: Rows, jobs: list[Job]) -> None:
    """Blank regions make every cell of a pool equal: the first has the gradient, as in torch."""
    if images_are == "blank":
        features = np.round(images.features).clip(0, 1)
        features[:, :, :4] = 0
        images = replace(images, features=features.astype(np.float32))
    options = {**OPTIONS, "model": "leakgauge.benchmarks.stacked:pooled_cnn"}
    trainer = DpSgd(**options, noise_multiplier=0.8) if private else Sgd(**options)
    together = trainer.fit_many(images, jobs[:3], device="cpu")
    for job, model in zip(jobs[:3], together, strict=True):
        alone = trainer.fit(images, job.inside, seeds=job.seeds, device="cpu")
        for p, q in zip(model.model.parameters(), alone.model.parameters(), strict=True):
            assert torch.allclose(p, q, atol=1e-10, rtol=0)
