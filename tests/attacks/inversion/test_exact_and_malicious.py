"""Exact batches through ReLU, and a malicious server's imprint: against inputs known by construction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from leakgauge.attacks.inversion.analytic import follows_relu
from leakgauge.attacks.inversion.images import AnalyticInversion
from leakgauge.attacks.inversion.imprint import Imprint, imprint, read_bins
from leakgauge.attacks.inversion.relu import invert_relu
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.games import Game, Outcome, Stage
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access, Rows
from leakgauge.trainers.dpsgd import DpSgd
from leakgauge.trainers.models import ModelSpec, build_model
from leakgauge.trainers.sgd import Sgd


@pytest.fixture(scope="module")
def digits() -> Rows:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[:300, None] / 16).astype(np.float32)
    return Rows(images, bunch.target[:300].astype(np.int64), tuple(map(str, range(300))), 10, "digits")


def play(game, trainer, rows: Rows, folder: Path) -> Outcome:
    folder.mkdir(exist_ok=True)
    private, public = rows.take(np.arange(170)), rows.take(np.arange(170, 300))
    stage = Stage(
        trainer, public, private, np.ones(170, bool), lambda: None, None, Access.GRADIENTS, "cpu", 0.95, folder
    )
    return game.play(stage, seeds=Seeds(5))


def layer_gradients(inputs: torch.Tensor, width: int) -> tuple[np.ndarray, ...]:
    module = build_model(ModelSpec("mlp", hidden=(width,)), inputs.shape[1:], 10, seeds=Seeds(2))
    labels = torch.arange(len(inputs)) % 10
    torch.autograd.backward(torch.nn.functional.cross_entropy(module(inputs), labels))
    layer = module[1]
    return tuple(t.detach().double().numpy() for t in (layer.weight.grad, layer.bias.grad, layer.weight, layer.bias))


@pytest.mark.parametrize("batch", [1, 2, 5, 8])
def test_a_batch_through_relu_is_exact_and_says_so(batch):
    inputs = torch.rand((batch, 50), generator=torch.Generator().manual_seed(batch))
    found = invert_relu(*layer_gradients(inputs, 200), batch_size=batch, seeds=Seeds(1))
    assert found is not None
    assert found.agreement > 0.99
    distances = torch.cdist(inputs.double(), torch.from_numpy(found.inputs))
    assert float(distances.amin(dim=1).max()) < 1e-2
    assert sorted(distances.argmin(dim=1).tolist()) == list(range(batch))


def test_noise_fills_the_gradients_rank_and_nothing_is_found():
    inputs = torch.rand((4, 50), generator=torch.Generator().manual_seed(0))
    weight_gradient, *rest = layer_gradients(inputs, 200)
    noisy = weight_gradient + Seeds(3).generator().normal(scale=np.abs(weight_gradient).max(), size=(200, 50))
    assert invert_relu(noisy, *rest, batch_size=4, seeds=Seeds(1)) is None
    # More records than inputs: the rank does not show how many there are.
    assert invert_relu(weight_gradient, *rest, batch_size=51, seeds=Seeds(1)) is None


def test_relu_beats_the_mixture_on_digits_and_dies_under_protection(digits, tmp_path):
    trainer = Sgd(model="mlp", hidden=(100,))
    settings = {"victims": 5, "batch_size": 4}
    exact = play(AnalyticInversion(method="relu", **settings), trainer, digits, tmp_path / "a").measures
    mixed = play(AnalyticInversion(**settings), trainer, digits, tmp_path / "b").measures
    assert exact["exact_share"].value == 1.0
    assert exact["psnr"].n == 5
    assert mixed["exact_share"].value < 0.3
    private = DpSgd(model="mlp", hidden=(100,), noise_multiplier=1.0, nominal_rows=600)
    guarded = play(AnalyticInversion(method="relu", **settings), private, digits, tmp_path / "c").measures
    assert guarded["psnr"].value < 20


def test_a_malicious_server_reads_images_that_are_alone_in_their_bin(digits, tmp_path):
    outcome = play(Imprint(victims=20, batch_size=8, bins=200), Sgd(model="cnn"), digits, tmp_path)
    expected = outcome.measures["expected_alone_in_a_bin"].value
    assert expected == pytest.approx((1 - 1 / 200) ** 7)
    # 160 images: standard error at most .03; digits repeat their brightness, so some share of bins is lost besides.
    assert outcome.measures["exact_share"].value > expected - 0.2
    assert outcome.threat["server"].startswith("malicious")
    assert isinstance(Imprint(), Game)


def test_bins_hold_what_the_thresholds_say():
    brightness = torch.linspace(-1, 1, 101, dtype=torch.float64)
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).double()
    module = imprint(body, brightness, (1, 3, 4), 9)
    levels = torch.tensor([-0.9, 0.11, 0.5], dtype=torch.float64)
    images = levels[:, None, None, None] + 0.01 * torch.randn(
        (3, 1, 3, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    torch.autograd.backward(torch.nn.functional.cross_entropy(module(images), torch.tensor([0, 1, 2])))
    found = read_bins(module[1].weight.grad, module[1].bias.grad, 3)
    # Thresholds lie at -0.8, -0.6, ... 0.8: the first image is below all of them and leaves nothing.
    distances = torch.cdist(images.flatten(1), torch.from_numpy(found))
    assert float(distances[1:].amin(dim=1).max()) < 1e-9
    assert float(distances[0].min()) > 1


def test_what_does_not_fit_is_refused(digits, tmp_path):
    good = layer_gradients(torch.rand((2, 20), generator=torch.Generator().manual_seed(0)), 30)
    with pytest.raises(IncompatibleError, match="shapes"):
        invert_relu(good[0].T, *good[1:], batch_size=2, seeds=Seeds(1))
    with pytest.raises(ConfigError, match="batch_size"):
        invert_relu(*good, batch_size=0, seeds=Seeds(1))
    with pytest.raises(ConfigError, match="NaN"):
        invert_relu(good[0] * np.nan, *good[1:], batch_size=2, seeds=Seeds(1))
    with pytest.raises(ConfigError, match="method"):
        AnalyticInversion(method="magic")
    with pytest.raises(IncompatibleError, match="needs ReLU behind"):
        play(AnalyticInversion(method="relu"), Sgd(model="logistic"), digits, tmp_path)
    with pytest.raises(IncompatibleError, match="found Sigmoid"):
        follows_relu(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Sigmoid()), "0")
    with pytest.raises(ConfigError, match="bins"):
        Imprint(bins=1)
