from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch.nn.functional import cross_entropy

from leakgauge.audit.claims_json import claim_from_json
from leakgauge.audit.errors import ConfigError, StaleArtifactError
from leakgauge.audit.registry import TRAINERS
from leakgauge.audit.types import Job, Rows, StackedTrainer
from leakgauge.trainers.dpsgd import DpSgd
from leakgauge.trainers.models import ModelSpec, build_model
from leakgauge.trainers.sampling import batch_stream
from leakgauge.trainers.sgd import Sgd


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_equals_a_naive_loop(images: Rows, jobs: list[Job]) -> None:
    job = jobs[1]
    trainer = Sgd(epochs=3, batch_size=7, nominal_rows=30, learning_rate=0.1, momentum=0.8, dtype="float64")
    module = build_model(ModelSpec(), (2, 6, 6), 4, seeds=job.seeds).double()
    buffers = [torch.zeros_like(p) for p in module.parameters()]
    rows = np.flatnonzero(job.inside)
    stream = batch_stream(rows, sampling="shuffle", batch_size=7, sample_rate=0.0, seeds=job.seeds)
    for batch in stream.take(13).each():  # ceil(3 * 30 / 7)
        x, y = torch.from_numpy(images.features[batch]).double(), torch.from_numpy(images.labels[batch])
        gradients = torch.autograd.grad(cross_entropy(module(x), y), list(module.parameters()))
        for p, b, g in zip(module.parameters(), buffers, gradients, strict=True):
            b.copy_(0.8 * b + g)
            p.data -= 0.1 * b
    trained = trainer.fit(images, job.inside, seeds=job.seeds, device="cpu")
    assert trained.steps == 13
    assert trained.claim is None
    assert torch.allclose(weights(trained.model), weights(module), atol=1e-12)


def test_metrics_are_those_of_the_target(images: Rows, jobs: list[Job]) -> None:
    job = jobs[0]
    trained = Sgd(epochs=5, nominal_rows=30, dropout=0.3).fit(images, job.inside, seeds=job.seeds, device="cpu")
    answers = trained.target.log_probabilities(images.features[job.inside])
    labels = images.labels[job.inside]
    assert trained.metrics["train_loss"] == pytest.approx(-answers[np.arange(len(labels)), labels].mean(), abs=1e-5)
    assert trained.metrics["train_accuracy"] == pytest.approx((answers.argmax(1) == labels).mean())
    with torch.no_grad():
        logits = trained.model(torch.from_numpy(images.features[job.inside]))
    np.testing.assert_allclose(answers, log_softmax(logits.numpy(), axis=1), atol=1e-5)


def test_rows_outside_are_never_seen(images: Rows, jobs: list[Job]) -> None:
    """Garbage in the rows outside changes nothing, for one model and for a stack, padding included."""
    for trainer in (
        Sgd(epochs=4, nominal_rows=30, batch_size=8, sampling="poisson"),
        DpSgd(epochs=4, nominal_rows=30, batch_size=8, noise_multiplier=1.0),
    ):
        outside = ~np.any([j.inside for j in jobs[:2]], axis=0)
        garbage = Rows(
            np.where(outside[:, None, None, None], 7e3, images.features).astype(np.float32),
            images.labels,
            images.records,
            4,
        )
        assert outside.any()
        for one, other in zip(
            trainer.fit_many(images, jobs[:2], device="cpu"),
            trainer.fit_many(garbage, jobs[:2], device="cpu"),
            strict=True,
        ):
            assert torch.equal(weights(one.model), weights(other.model))


@pytest.mark.parametrize(
    "trainer",
    [
        Sgd(epochs=1, model="cnn", early_stopping_patience=2),
        DpSgd(epochs=1, nominal_rows=30, batch_size=8, noise_multiplier=1.0),
        Sgd(epochs=1, dtype="float64"),
    ],
)
def test_save_and_load(trainer: Sgd | DpSgd, images: Rows, jobs: list[Job], tmp_path: Path) -> None:
    trained = trainer.fit(images, jobs[0].inside, seeds=jobs[0].seeds, device="cpu")
    trainer.save(trained, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"model.safetensors", "train.json"}
    loaded = trainer.load(tmp_path, images, device="cpu")
    assert torch.equal(weights(loaded.model), weights(trained.model))
    assert (loaded.claim, loaded.steps, loaded.metrics) == (trained.claim, trained.steps, trained.metrics)
    np.testing.assert_array_equal(
        loaded.target.log_probabilities(images.features), trained.target.log_probabilities(images.features)
    )
    record = json.loads((tmp_path / "train.json").read_text())
    assert record["spec"]["name"] == trainer.name
    assert record["spec"]["batch_size"] == trainer.batch_size
    assert record["claim"] is None or claim_from_json(record["claim"]) == trained.claim
    with pytest.raises(StaleArtifactError, match="cannot be loaded into the architecture"):
        replace(trainer, model="logistic").load(tmp_path, images, device="cpu")
    (tmp_path / "train.json").unlink()
    with pytest.raises(StaleArtifactError, match="cannot be read"):
        trainer.load(tmp_path, images, device="cpu")


def test_registered() -> None:
    assert TRAINERS.load("sgd") is Sgd
    assert TRAINERS.load("dp-sgd") is DpSgd
    assert isinstance(Sgd(), StackedTrainer)


def test_no_rows(images: Rows) -> None:
    from leakgauge.audit.seeds import Seeds

    with pytest.raises(ConfigError, match="no training rows"):
        Sgd().fit(images, np.zeros(60, bool), seeds=Seeds(1), device="cpu")
    with pytest.raises(ConfigError, match="is no row"):
        Sgd(early_stopping_patience=1, validation_fraction=0.01).fit(
            images, np.arange(60) < 9, seeds=Seeds(1), device="cpu"
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be > 0, got 0"),
        ({"batch_size": -1}, "batch_size"),
        ({"nominal_rows": 0}, "nominal_rows"),
        ({"optimizer": "adagrad"}, "optimizer"),
        ({"sampling": "coin"}, "sampling"),
        ({"dtype": "float16"}, "dtype"),
        ({"momentum": 1.0}, "momentum"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"early_stopping_patience": 0}, "early_stopping_patience"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"learning_rate": float("nan")}, "learning_rate"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sgd(**options)


@pytest.mark.parametrize("name", ["sgd", "dp-sgd"])
def test_a_model_that_diverged_is_a_failure_and_makes_no_claim(name: str, images: Rows, jobs: list[Job]) -> None:
    # Records whose gradients overflow; Opacus clips them to NaN, which no noise hides.
    rows = replace(images, features=np.full_like(images.features, 3e38)) if name == "dp-sgd" else images
    common: dict[str, Any] = {"hidden": (8,), "epochs": 2, "batch_size": 8, "nominal_rows": 16}
    trainer = Sgd(learning_rate=1e38, **common) if name == "sgd" else DpSgd(noise_multiplier=1.0, delta=1e-5, **common)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        trainer.fit(rows, jobs[0].inside, seeds=jobs[0].seeds, device="cpu")
    with pytest.raises(FloatingPointError, match="learning_rate"):
        trainer.fit_many(rows, jobs[:2], device="cpu")
