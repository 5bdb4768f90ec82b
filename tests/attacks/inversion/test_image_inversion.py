"""Image reconstruction: exact where it must be, better than its priors, and clear about gradients that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from leakgauge.attacks.inversion.analytic import invert_linear
from leakgauge.attacks.inversion.images import AnalyticInversion, DeepLeakage, InvertingGradients
from leakgauge.attacks.inversion.labels import restore_labels
from leakgauge.attacks.inversion.matching import Matching, match, total_variation
from leakgauge.attacks.inversion.observation import Observation, check_observation, local_update, observe
from leakgauge.attacks.inversion.threat import ThreatModel
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.games import Game, Outcome, Stage
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access, Rows
from leakgauge.trainers.dpsgd import DpSgd
from leakgauge.trainers.networks import lenet
from leakgauge.trainers.sgd import Sgd


@pytest.fixture(scope="module")
def digits() -> Rows:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[:300, None] / 16).astype(np.float32)
    return Rows(images, bunch.target[:300].astype(np.int64), tuple(map(str, range(300))), 10, "digits")


def play(game, trainer, rows: Rows, folder: Path) -> Outcome:
    private, public = rows.take(np.arange(100)), rows.take(np.arange(100, 300))
    stage = Stage(
        trainer, public, private, np.ones(100, bool), lambda: None, None, Access.GRADIENTS, "cpu", 0.95, folder
    )
    return game.play(stage, seeds=Seeds(5))


@pytest.mark.parametrize("game", [AnalyticInversion(), DeepLeakage(), InvertingGradients()])
def test_they_are_games(game):
    assert isinstance(game, Game)


def test_one_record_through_a_linear_layer_is_exact(digits, tmp_path):
    outcome = play(AnalyticInversion(victims=20), Sgd(model="mlp", hidden=(32,)), digits, tmp_path)
    psnr = outcome.measures["psnr"]
    assert psnr.low > 100
    assert psnr.baseline.value < 20
    assert outcome.measures["exact_share"].value == 1.0
    assert outcome.measures["ssim"].value == pytest.approx(1.0, abs=1e-6)


def test_a_batch_through_a_softmax_layer_is_the_mixture_that_theory_says():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand((3, 20), generator=generator)
    weight, bias = torch.randn((10, 20), generator=generator) / 5, torch.zeros(10)
    weight.requires_grad_()
    bias.requires_grad_()
    labels = torch.tensor([1, 4, 7])
    logits = inputs @ weight.T + bias
    torch.autograd.backward(torch.nn.functional.cross_entropy(logits, labels))
    found = invert_linear(weight.grad, bias.grad, batch_size=3)
    # Output c mixes the records with weights p_c - [c is the label], by hand.
    shares = torch.softmax(logits.detach(), dim=1) - torch.nn.functional.one_hot(labels, 10)
    expected = torch.stack([shares[:, c] @ inputs / shares[:, c].sum() for c in labels.tolist()])
    nearest = torch.cdist(expected, found).argmin(dim=1)
    assert torch.allclose(found[nearest], expected, atol=1e-4)
    # Centred, the own record shows through.
    centred = torch.corrcoef(torch.cat([inputs, found[nearest]]))[:3, 3:]
    assert (centred.argmax(dim=1) == torch.arange(3)).all()


def test_the_defended_gradient_is_not_exact(digits, tmp_path):
    trainer = DpSgd(model="mlp", hidden=(32,), noise_multiplier=1.0, nominal_rows=600)
    outcome = play(AnalyticInversion(victims=5), trainer, digits, tmp_path)
    assert outcome.measures["psnr"].value < 20
    assert "clipped to norm 1" in outcome.threat["holds"]


def test_deep_leakage_rebuilds_digits_through_a_smooth_network(digits, tmp_path):
    outcome = play(DeepLeakage(victims=3, iterations=300), Sgd(model="lenet"), digits, tmp_path)
    assert outcome.measures["psnr"].value > 20
    assert outcome.measures["psnr"].value > outcome.measures["psnr"].baseline.value + 8


def test_labels_are_restored_exactly_near_uniform_probabilities():
    generator = np.random.default_rng(0)
    for _ in range(200):
        labels = np.sort(generator.integers(10, size=5))
        probabilities = generator.dirichlet(np.full(10, 200.0), size=5)
        gradient = probabilities.mean(axis=0) - np.bincount(labels, minlength=10) / 5
        assert (restore_labels(torch.from_numpy(gradient), 5) == labels).all()
    with pytest.raises(ConfigError, match="declare the batch size"):
        restore_labels(torch.zeros(10), 0)


def test_restarts_side_by_side_are_the_same_searches_as_one_after_another():
    generator = torch.Generator().manual_seed(3)
    module = lenet((1, 8, 8), 10)
    images, labels = torch.rand((2, 1, 8, 8), generator=generator), torch.tensor([3, 5])
    gradients = local_update(module, images, labels, steps=1, learning_rate=0.1)
    observation = Observation(gradients, tuple(n for n, _ in module.named_parameters()), ThreatModel())
    low, high = torch.zeros((1, 8, 8)), torch.ones((1, 8, 8))

    def losses(restarts: int, together: bool = True) -> np.ndarray:
        search = Matching(iterations=5, restarts=restarts, together=together)
        return match(observation, module, labels, (1, 8, 8), search, low=low, high=high, seeds=Seeds(1)).losses.numpy()

    three = losses(3)
    assert len(set(three.tolist())) == 3
    assert three == pytest.approx(losses(3, together=False), rel=1e-3)
    assert three[:2] == pytest.approx(losses(2), rel=1e-3)


def test_a_client_update_of_several_steps_is_the_mean_of_its_gradients():
    module = torch.nn.Linear(4, 3)
    features, labels = torch.rand((6, 4)), torch.tensor([0, 1, 2, 0, 1, 2])
    update = local_update(module, features, labels, steps=3, learning_rate=0.5)
    copied = torch.nn.Linear(4, 3)
    copied.load_state_dict(module.state_dict())
    total = [torch.zeros_like(p) for p in copied.parameters()]
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(copied(features), labels)
        gradients = torch.autograd.grad(loss, list(copied.parameters()))
        with torch.no_grad():
            for p, g, t in zip(copied.parameters(), gradients, total, strict=True):
                t += g / 3
                p -= 0.5 * g
    for found, expected in zip(update, total, strict=True):
        assert torch.allclose(found, expected, atol=1e-6)


def test_total_variation_of_flat_images_is_zero_and_counts_neighbours():
    assert float(total_variation(torch.ones((1, 1, 3, 4, 4)))) == 0
    step = torch.zeros((1, 1, 1, 4, 4))
    step[..., 2:] = 1.0
    assert float(total_variation(step)) == pytest.approx(4 / 12)


def test_a_resumed_game_attacks_no_victim_twice(digits, tmp_path, monkeypatch):
    first = play(AnalyticInversion(victims=4), Sgd(model="mlp"), digits, tmp_path)
    monkeypatch.setattr("leakgauge.attacks.inversion.victims.reconstruct", None)
    assert play(AnalyticInversion(victims=4), Sgd(model="mlp"), digits, tmp_path).measures == first.measures


def test_gradients_that_do_not_fit_are_refused():
    module = lenet((1, 8, 8), 10)
    good = [torch.ones_like(p) for p in module.parameters()]
    check_observation(good, module)
    with pytest.raises(IncompatibleError, match="a layer is missing"):
        check_observation(good[:-1], module)
    with pytest.raises(IncompatibleError, match="has shape"):
        check_observation([good[0].flatten(), *good[1:]], module)
    with pytest.raises(ConfigError, match="NaN"):
        check_observation([good[0] * float("nan"), *good[1:]], module)
    with pytest.raises(ConfigError, match="zero everywhere"):
        check_observation([g * 0 for g in good], module)


def test_wrong_settings_are_named(digits, tmp_path):
    with pytest.raises(ConfigError, match="victims"):
        InvertingGradients(victims=0)
    with pytest.raises(ConfigError, match="normalisation"):
        InvertingGradients(normalisation="some")
    with pytest.raises(IncompatibleError, match="first layer is linear"):
        play(AnalyticInversion(victims=2), Sgd(model="lenet"), digits, tmp_path)
    with pytest.raises(ConfigError, match="victim batches"):
        play(AnalyticInversion(victims=200), Sgd(model="mlp"), digits, tmp_path)


def test_batch_statistics_are_revealed_only_where_the_threat_model_says(digits):
    trainer = Sgd(model="convnet-bn")
    images = torch.rand((4, 3, 9, 9))
    rows = Rows(images.numpy(), np.arange(4), tuple("abcd"), 10, "tiny")
    module = trainer.fresh_model(rows, seeds=Seeds(1), device="cpu").train()
    labels = torch.arange(4)
    for normalisation, layers in (("batch", 0), ("revealed", 3)):
        threat = ThreatModel(batch_size=4, normalisation=normalisation)
        seen = observe(trainer, module, images, labels, threat=threat, seeds=Seeds(2))
        assert len(seen.statistics) == layers
