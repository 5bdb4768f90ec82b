"""Denoising autoencoders: what they learn, that labels play no part, and that private training clips each record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from leakgauge.audit.errors import ConfigError, IncompatibleError, StaleArtifactError
from leakgauge.audit.representation import Representation, RepresentationTrainer
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows
from leakgauge.trainers.models import ModelSpec
from leakgauge.trainers.recipe import OptimizerSpec, Protection, Recipe
from leakgauge.trainers.selfsupervised import Autoencoder, DpAutoencoder
from leakgauge.trainers.selfsupervised.networks import AutoencoderSpec, build_autoencoder, record_errors, summed_error
from leakgauge.trainers.selfsupervised.training import Corruption
from leakgauge.trainers.steps import make_step

SEEDS = Seeds(7)
QUICK = {"hidden": (32,), "code": 4, "epochs": 40, "batch_size": 16, "learning_rate": 0.01}


def rows(count: int = 64, shape: tuple[int, ...] = (12,), classes: int = 3) -> Rows:
    """Records near a two-dimensional plane: a code of four numbers can hold them."""
    generator = SEEDS.at("rows").generator()
    plane = generator.normal(size=(2, int(np.prod(shape))))
    features = generator.normal(size=(count, 2)) @ plane + 0.05 * generator.normal(size=(count, int(np.prod(shape))))
    labels = generator.integers(classes, size=count)
    ids = tuple(f"r{i}" for i in range(count))
    return Rows(features.reshape(count, *shape).astype(np.float32), labels, ids, classes)


def everyone(data: Rows) -> np.ndarray:
    return np.ones(len(data), dtype=bool)


def test_it_learns_to_restore_records_it_never_saw():
    data = rows(160)
    inside = np.arange(160) < 120
    trainer = Autoencoder(**QUICK, noise=0.1)
    trained = trainer.fit(data, inside, seeds=SEEDS, device="cpu")
    fresh = data.features[~inside]
    error = ((trained.target.reconstruct(fresh) - fresh) ** 2).mean()
    assert error < 0.1 * fresh.var()
    assert trained.target.encode(fresh).shape == (40, 4)
    assert isinstance(trained.target, Representation)
    assert isinstance(trainer, RepresentationTrainer)
    assert trained.claim is None


def test_labels_play_no_part_and_seeds_fix_the_model():
    data = rows()
    other = replace(data, labels=(data.labels + 1) % data.classes)
    trainer = Autoencoder(**{**QUICK, "epochs": 3})
    once, again = (trainer.fit(d, everyone(d), seeds=SEEDS, device="cpu").target for d in (data, other))
    assert np.array_equal(once.reconstruct(data.features), again.reconstruct(data.features))
    assert np.allclose(np.exp(once.log_probabilities(data.features)), 1 / 3)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_stored_models_come_back(tmp_path, kind):
    data = rows(24, (1, 7, 6))
    trainer = Autoencoder(model=kind, **{**QUICK, "epochs": 2})
    trained = trainer.fit(data, everyone(data), seeds=SEEDS, device="cpu")
    trainer.save(trained, tmp_path)
    back = trainer.load(tmp_path, data, device="cpu")
    assert np.array_equal(back.target.reconstruct(data.features), trained.target.reconstruct(data.features))
    assert trained.target.reconstruct(data.features).shape == data.features.shape
    assert (back.steps, dict(back.metrics)) == (trained.steps, dict(trained.metrics))
    (tmp_path / "train.json").write_text("{")
    with pytest.raises(StaleArtifactError, match="remove the folder"):
        trainer.load(tmp_path, data, device="cpu")


def test_an_untrained_network_is_that_of_its_seeds():
    data = rows(8)
    trainer = Autoencoder(**QUICK)
    one, same, other = (trainer.untrained(data, seeds=Seeds(s), device="cpu") for s in (1, 1, 2))
    assert np.array_equal(one.encode(data.features), same.encode(data.features))
    assert not np.array_equal(one.encode(data.features), other.encode(data.features))


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_each_record_moves_a_private_step_by_at_most_the_clip(kind):
    # From outside: the weights after a noiseless step with and without one huge record.
    data = rows(6, (1, 8, 8))
    features = torch.from_numpy(data.features).clone()
    features[0] *= 1000
    clip, batch_size = 0.5, 4

    def moved(part: torch.Tensor) -> torch.Tensor:
        module = build_autoencoder(AutoencoderSpec(kind, (16,), (4, 8), 5), (1, 8, 8), seeds=SEEDS)
        before = torch.cat([p.detach().clone().flatten() for p in module.parameters()])
        recipe = Recipe(
            ModelSpec(),
            OptimizerSpec("sgd", 1.0, 0.0, 0.0),
            1,
            batch_size,
            "poisson",
            6,
            "float32",
            Protection(1e-9, clip),
        )
        make_step(module, recipe, seeds=SEEDS, device="cpu", loss=summed_error)(part, part)
        return torch.cat([p.detach().flatten() for p in module.parameters()]) - before

    contribution = (moved(features) - moved(features[1:])) * batch_size
    assert contribution.norm() <= clip + 1e-4
    assert contribution.norm() > 0.9 * clip


def test_the_private_step_is_the_clipped_sum_of_gradients_of_single_records():
    data = torch.from_numpy(rows(5).features)
    spec, clip = AutoencoderSpec("mlp", (8,), code=3), 0.7
    module = build_autoencoder(spec, (12,), seeds=SEEDS)
    total = torch.zeros(sum(p.numel() for p in module.parameters()))
    for record in data:
        loss = record_errors(module(record[None]), record[None]).sum()
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()))])
        total += gradient * min(1.0, clip / float(gradient.norm()))
    before = torch.cat([p.detach().clone().flatten() for p in module.parameters()])
    recipe = Recipe(
        ModelSpec(), OptimizerSpec("sgd", 1.0, 0.0, 0.0), 1, 5, "poisson", 10, "float32", Protection(1e-9, clip)
    )
    make_step(module, recipe, seeds=SEEDS, device="cpu", loss=summed_error)(data, data)
    after = torch.cat([p.detach().flatten() for p in module.parameters()])
    assert torch.allclose(before - after, total / 5, atol=1e-5)


def test_a_private_model_claims_what_it_planned_and_its_twin_claims_nothing():
    data = rows()
    trainer = DpAutoencoder(**{**QUICK, "epochs": 4}, epsilon=3.0, delta=1e-4, nominal_rows=64)
    trained = trainer.fit(data, everyone(data), seeds=SEEDS, device="cpu")
    assert trained.claim is not None
    assert trained.claim.epsilon == pytest.approx(3.0, abs=0.02)
    assert trained.claim == trainer.planned_claim(1)
    assert trained.steps == trainer.planned_steps(1)
    assert any("labels are not read" in line for line in trained.claim.assumes)
    twin = trainer.unprotected()
    assert (twin.sampling, twin.nominal_rows, twin.planned_steps(1)) == ("poisson", 64, trained.steps)


def test_private_training_on_nobody_is_noise_alone():
    data = rows()
    trainer = DpAutoencoder(**{**QUICK, "epochs": 2}, noise_multiplier=1.0, nominal_rows=64)
    trained = trainer.fit(data, ~everyone(data), seeds=SEEDS, device="cpu")
    assert trained.steps == trainer.planned_steps(0)
    assert "train_error" not in trained.metrics


def test_corruption_has_the_size_it_says():
    # 40000 numbers: five standard errors are under 0.02 for both; fails with probability under 1e-6.
    records = torch.ones(200, 200)
    gaussian = Corruption("gaussian", 0.3).apply(records, SEEDS.at("g").torch_generator())
    assert float((gaussian - records).std()) == pytest.approx(0.3, abs=0.01)
    masked = Corruption("masking", 0.4).apply(records, SEEDS.at("m").torch_generator())
    assert set(masked.unique().tolist()) == {0.0, 1.0}
    assert float((masked == 0).float().mean()) == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "cnn"}, "model must be 'mlp' or 'conv', got 'cnn'"),
        ({"code": 0}, "code must be positive, got 0"),
        ({"hidden": (8, 0)}, r"hidden must be positive, got \[8, 0\]"),
        ({"corruption": "salt"}, "corruption must be"),
        ({"corruption": "masking", "noise": 1.0}, "below 1 for masking"),
        ({"noise": -0.1}, "noise must be >= 0"),
        ({"epochs": 0}, "epochs must be > 0"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        Autoencoder(**change)


def test_bad_private_settings_are_refused():
    with pytest.raises(ConfigError, match="either epsilon or noise_multiplier"):
        DpAutoencoder()
    with pytest.raises(ConfigError, match="use trainer 'autoencoder'"):
        DpAutoencoder(epsilon=0.0)
    with pytest.raises(ConfigError, match="needs nominal_rows"):
        DpAutoencoder(epsilon=1.0).fit(rows(), everyone(rows()), seeds=SEEDS, device="cpu")


def test_text_and_flat_images_are_refused():
    tokens = Rows(np.zeros((3, 4), np.int64), np.zeros(3, np.int64), ("a", "b", "c"), 2, "notes")
    with pytest.raises(IncompatibleError, match="data 'notes' holds tokens"):
        Autoencoder().fit(tokens, np.ones(3, dtype=bool), seeds=SEEDS, device="cpu")
    with pytest.raises(ConfigError, match="'conv' needs images"):
        Autoencoder(model="conv").fit(rows(), everyone(rows()), seeds=SEEDS, device="cpu")
