"""Stacked training equals training one after another: same seeds, float64, 20 steps and more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from leakgauge.audit.types import Job, Rows, Trained
from leakgauge.trainers import stacked
from leakgauge.trainers.dpsgd import DpSgd
from leakgauge.trainers.sgd import Sgd
from leakgauge.trainers.stacked import memory

TOLERANCE = 1e-10  # the promise is 1e-5

PLAIN: dict[str, Any] = {"batch_size": 6, "epochs": 4, "nominal_rows": 30, "dtype": "float64", "learning_rate": 0.05}
PRIVATE: dict[str, Any] = {**PLAIN, "noise_multiplier": 0.8}


def distance(one: Trained, other: Trained) -> float:
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def assert_parity(trainer: Sgd | DpSgd, data: Rows, jobs: list[Job], at_least: int = 20) -> None:
    together = trainer.fit_many(data, jobs, device="cpu")
    for job, model in zip(jobs, together, strict=True):
        alone = trainer.fit(data, job.inside, seeds=job.seeds, device="cpu")
        assert model.steps == alone.steps >= at_least
        assert distance(model, alone) < TOLERANCE
        assert model.metrics == pytest.approx(alone.metrics, abs=1e-9)
        assert model.claim == alone.claim
    assert distance(together[0], together[1]) > 1e-3


@pytest.mark.parametrize("model", ["mlp", "cnn", "logistic"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sampling": "poisson"},
        {"momentum": 0.0, "weight_decay": 0.02},
        {"optimizer": "adam", "weight_decay": 0.02, "learning_rate": 0.003},
        {"dropout": 0.3},
        {"dropout": 0.3, "sampling": "poisson"},
    ],
    ids=str,
)
def test_sgd(model: str, options: dict[str, Any], images: Rows, jobs: list[Job]) -> None:
    assert_parity(Sgd(model=model, **{**PLAIN, **options}), images, jobs)


@pytest.mark.parametrize("model", ["mlp", "cnn", "logistic"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clipping": "ghost", "momentum": 0.9},
        {"optimizer": "adam", "learning_rate": 0.003},
        {"dropout": 0.3, "weight_decay": 0.01},
        {"batch_size": 1},
    ],
    ids=str,
)
def test_dp_sgd(model: str, options: dict[str, Any], images: Rows, jobs: list[Job]) -> None:
    # Batches of one expected row are often empty: noise alone.
    assert_parity(DpSgd(model=model, **{**PRIVATE, "momentum": 0.5, **options}), images, jobs[:3])


def test_models_of_different_length(images: Rows, jobs: list[Job]) -> None:
    """Without a nominal size each model has its own number of steps."""
    trainer = Sgd(**{**PLAIN, "nominal_rows": None, "epochs": 5, "batch_size": 4})
    assert len({int(j.inside.sum()) for j in jobs}) > 1
    assert_parity(trainer, images, jobs)


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_early_stopping(model: str, images: Rows, jobs: list[Job]) -> None:
    # With labels partly random, the loss on held-out rows soon rises.
    labels = np.where(np.arange(60) % 3 == 0, np.arange(60) % 4, images.labels)
    noisy = Rows(images.features, labels, images.records, 4)
    trainer = Sgd(model=model, **{**PLAIN, "epochs": 40}, early_stopping_patience=3, validation_fraction=0.3)
    assert_parity(trainer, noisy, jobs, at_least=5)
    steps = [m.steps for m in trainer.fit_many(noisy, jobs, device="cpu")]
    assert len(set(steps)) > 1, "models should stop at different times"
    assert min(steps) < 140


def test_chunks_do_not_matter(images: Rows, jobs: list[Job], monkeypatch) -> None:
    trainer = DpSgd(**PRIVATE)
    whole = trainer.fit_many(images, jobs, device="cpu")
    monkeypatch.setitem(memory.BYTES, "cpu", 1)
    reports: list[tuple[int, int]] = []
    cut = trainer.fit_many(images, jobs, device="cpu", progress=lambda done, total: reports.append((done, total)))
    assert max(distance(a, b) for a, b in zip(whole, cut, strict=True)) < TOLERANCE
    assert reports == sorted(reports)
    assert reports[-1] == (100, 100)
    assert len(reports) >= 5


def test_same_call_same_bits(images: Rows, jobs: list[Job]) -> None:
    for trainer in (Sgd(nominal_rows=30, dropout=0.2), DpSgd(nominal_rows=30, batch_size=8, noise_multiplier=1.0)):
        one, two = (trainer.fit_many(images, jobs, device="cpu") for _ in range(2))
        assert all(distance(a, b) == 0 for a, b in zip(one, two, strict=True))


def test_no_jobs(images: Rows) -> None:
    assert Sgd().fit_many(images, [], device="cpu") == []


MODULES = """
import torch
from torch import nn

class Residual(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.first, self.second = nn.Linear(72, 9), nn.Linear(9, 9)
        self.norm, self.last = nn.LayerNorm(9), nn.Linear(9, classes, bias=False)
    def forward(self, x):
        h = torch.tanh(self.first(x.flatten(1)))
        return self.last(self.norm(h + torch.relu(self.second(h))))

class Random(Residual):
    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.5, self.training))

def residual(shape, classes):
    return Residual(shape, classes)

def random(shape, classes):
    return Random(shape, classes)

def batch_norm(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, classes))

def strided(shape, classes):
    return nn.Sequential(
        nn.Conv2d(2, 5, (3, 2), stride=(2, 1), padding=(1, 0)), nn.Tanh(),
        nn.Sequential(nn.AvgPool2d(2), nn.Identity()),
        nn.Conv2d(5, 60, 1, bias=False), nn.GELU(), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(60, 7), nn.Sigmoid(), nn.Linear(7, classes, bias=False),
    )

def tied(shape, classes):
    return nn.Sequential(
        nn.Conv2d(2, 5, (3, 2), stride=(2, 1), padding=(2, 0)), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(5, 3, 2),
        nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(36, 7), nn.ReLU(), nn.Linear(7, classes),
    )

def large(shape, classes):
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=5), nn.ReLU(), nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(144, classes)
    )

def pooled(shape, classes):
    return nn.Sequential(
        nn.MaxPool2d(2), nn.Conv2d(2, 40, 3), nn.ReLU(), nn.Conv2d(40, 30, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(30, classes),
    )
"""


@pytest.fixture
def architectures(tmp_path, monkeypatch) -> str:
    (tmp_path / "leakgauge_stacked_models.py").write_text(MODULES)
    monkeypatch.syspath_prepend(tmp_path)
    return "leakgauge_stacked_models"


@pytest.mark.parametrize("name", ["residual", "random", "strided", "pooled", "tied", "large"])
@pytest.mark.parametrize("trainer", [Sgd(**PLAIN, sampling="poisson"), DpSgd(**PRIVATE)], ids=["sgd", "dp-sgd"])
def test_users_modules(name: str, trainer: Sgd | DpSgd, architectures: str, images: Rows, jobs: list[Job]) -> None:
    assert_parity(replace(trainer, model=f"{architectures}:{name}"), images, jobs[:3])


def test_batch_normalisation_trains_one_by_one(architectures: str, images: Rows, jobs: list[Job]) -> None:
    reports: list[tuple[int, int]] = []
    trainer = Sgd(**PLAIN, model=f"{architectures}:batch_norm")
    models = trainer.fit_many(images, jobs[:2], device="cpu", progress=lambda *seen: reports.append(seen))
    assert reports == [(1, 2), (2, 2)]
    alone = trainer.fit(images, jobs[0].inside, seeds=jobs[0].seeds, device="cpu")
    assert distance(models[0], alone) == 0


def test_engines_are_the_ones_meant(architectures: str, images: Rows) -> None:
    from leakgauge.audit.seeds import Seeds
    from leakgauge.trainers.models import ModelSpec, build_model

    features = torch.from_numpy(images.features)
    meant = {
        "mlp": "DenseEngine",
        "logistic": "DenseEngine",
        "cnn": "DenseEngine",
        f"{architectures}:strided": "LayerEngine",
        f"{architectures}:pooled": "LayerEngine",
        f"{architectures}:tied": "DenseEngine",
        f"{architectures}:large": "LayerEngine",
        f"{architectures}:residual": "FunctionalEngine",
        f"{architectures}:random": "NoneType",
        f"{architectures}:batch_norm": "NoneType",
    }
    for name, engine in meant.items():
        module = build_model(ModelSpec(name), (2, 6, 6), 4, seeds=Seeds(1))
        assert type(stacked._engine([module], features, private=False)).__name__ == engine, name
        assert type(stacked._engine([module], features, private=True)).__name__ == engine, name


def test_learns(images: Rows, jobs: list[Job]) -> None:
    for model in Sgd(nominal_rows=30).fit_many(images, jobs, device="cpu"):
        assert model.metrics["train_accuracy"] > 0.95
        assert model.metrics["train_loss"] < 0.1
        assert model.target.log_probabilities(images.features).dtype == np.float32
