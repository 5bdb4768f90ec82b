"""Masks on the outputs of layers: what they multiply, what they leave alone, and that their files hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from leakgauge.audit.contracts.trainer import check_trainer
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows
from leakgauge.trainers.models import ModelSpec
from leakgauge.trainers.release import per_record_gradients
from leakgauge.trainers.supermask.bits import load_mask, save_mask
from leakgauge.trainers.supermask.federated import FederatedSupermask
from leakgauge.trainers.supermask.frozen import FrozenSpec, maskable
from leakgauge.trainers.supermask.module import Masked
from leakgauge.trainers.supermask.outputs import output_pieces
from leakgauge.trainers.supermask.private import DpSupermask
from leakgauge.trainers.supermask.rules import RULES, Rule
from leakgauge.trainers.supermask.trainer import Supermask

OUTPUTS: dict[str, Any] = {"hidden": (24,), "batch_size": 16, "place": "outputs"}


def masked(rule: str = "bernoulli", *, seed: int = 0, head: str = "masked", place: str = "outputs") -> Masked:
    network = FrozenSpec(ModelSpec("mlp", (6, 5)), "kaiming", seed).build((8,), 4)
    pieces = output_pieces(network, (), (8,)) if place == "outputs" else maskable(network)
    generator = Seeds(5).torch_generator()
    module = Masked(network, pieces, Rule(rule), head=head, place=place, generator=generator)  # type: ignore[arg-type]
    with torch.no_grad():
        module.scores.copy_(torch.randn(module.scores.shape, generator=generator))
    return module


@pytest.mark.parametrize("rule", RULES)
def test_each_hidden_output_is_multiplied_and_logits_are_not(rule: str) -> None:
    """Oracle: the layers by hand."""
    module, x = masked(rule), torch.randn(7, 8)
    network: Any = module.network
    first, second = (module.rule.values(module.bits().float())[piece.place] for piece in module.pieces)
    hidden = torch.relu((x @ network[1].weight.T + network[1].bias) * first)
    hidden = torch.relu((hidden @ network[3].weight.T + network[3].bias) * second)
    assert torch.allclose(module(x), hidden @ network[5].weight.T + network[5].bias, atol=1e-5)
    assert len(module.scores) == 11
    # Nothing stays behind in the network.
    assert not any(layer._forward_hooks for layer in network.modules())


@pytest.mark.parametrize("rule", RULES)
def test_gradients_of_a_batch_are_those_of_its_records(rule: str) -> None:
    module, x, y = masked(rule), torch.randn(7, 8), torch.arange(7) % 4
    each = per_record_gradients(module, x, y)
    torch.autograd.backward(torch.nn.functional.cross_entropy(module(x), y, reduction="sum"))
    assert module.scores.grad is not None
    assert torch.allclose(each.sum(0), module.scores.grad, atol=1e-5)
    slopes = module.multiplier_gradients(x, y) * module.slopes()
    assert torch.allclose(each, slopes, atol=1e-5)


class Tokens(nn.Module):
    """Embedding, attention and a convolution over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.convolution = nn.Conv1d(8, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.embedding(tokens)
        x = self.attention(x, x, x, need_weights=False)[0]
        out: torch.Tensor = self.head(self.convolution(x.transpose(1, 2)).mean(2))
        return out


def test_pieces_of_other_layers() -> None:
    """An attention layer is one piece with its projections; a convolution has one element a channel and position."""
    pieces = {p.name: p.shape for p in output_pieces(Tokens(), (), (7,))}
    assert pieces == {"embedding": (8,), "attention": (8,), "convolution": (6, 7), "head": (4,)}
    assert [p.name for p in output_pieces(Tokens(), ("attention", "conv"), (7,))] == ["attention", "convolution"]
    with pytest.raises(ConfigError, match="'tail'"):
        output_pieces(Tokens(), ("tail",), (7,))


def test_masking_out_a_layer_silences_it() -> None:
    network = Tokens().eval()
    module = Masked(
        network,
        output_pieces(network, (), (7,)),
        Rule("threshold"),
        place="outputs",
        generator=Seeds(1).torch_generator(),
    )
    tokens = torch.randint(0, 11, (3, 7), generator=Seeds(2).torch_generator())
    with torch.no_grad():
        module.scores.fill_(1.0)
        assert torch.allclose(module(tokens), network(tokens), atol=1e-6)
        module.scores[module.pieces[2].place] = -1.0
        assert torch.allclose(module(tokens), network.head.bias.expand(3, 4))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("head", ["masked", "trained"])
def test_a_file_round_trips_and_the_wrong_place_or_weights_are_refused(rule: str, head: str, tmp_path: Path) -> None:
    module, other, x = masked(rule, head=head), masked(rule, head=head), torch.randn(5, 8)
    with torch.no_grad():
        other.scores.neg_()
        for name in module.free:
            module.network.get_parameter(name).add_(1.0)
    save_mask(module, tmp_path / "mask.safetensors")
    load_mask(other, tmp_path / "mask.safetensors")
    assert torch.equal(module.bits(), other.bits())
    assert torch.equal(module.seal()(x), other(x))
    with pytest.raises(IncompatibleError, match="frozen"):
        load_mask(masked(rule, head=head, seed=1), tmp_path / "mask.safetensors")
    with pytest.raises(IncompatibleError, match="place outputs, the model weights"):
        load_mask(masked(rule, head=head, place="weights"), tmp_path / "mask.safetensors")


def test_files_from_before_places_are_read_as_weights(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    module, path = masked(place="weights"), tmp_path / "mask.safetensors"
    save_mask(module, path)
    with safe_open(path, framework="pt") as file:
        told, held = dict(file.metadata()), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    del told["place"]
    save_file(held, path, metadata=told)
    load_mask(masked(place="weights"), path)
    with pytest.raises(IncompatibleError, match="place weights"):
        load_mask(masked(), path)


@pytest.mark.parametrize(
    "trainer",
    [
        Supermask(**OUTPUTS, rule="sign", learning_rate=0.02, head="trained", epochs=8),
        DpSupermask(**OUTPUTS, rule="sign", noise_multiplier=1.0, epochs=4, nominal_rows=60),
        FederatedSupermask(**OUTPUTS, clients=5, cohort=5, rounds=3),
    ],
)
def test_keeps_the_contract(trainer: Any, blobs: Rows, tmp_path: Path) -> None:
    check_trainer(trainer, blobs, tmp_path, seeds=Seeds(4))


def test_it_learns_and_stacks(blobs: Rows) -> None:
    rows = np.ones(len(blobs), np.bool_)
    trainer = Supermask(**OUTPUTS, rule="sign", learning_rate=0.02, head="trained", epochs=20)
    trained = trainer.fit(blobs, rows, seeds=Seeds(1), device="cpu")
    assert trained.metrics["train_accuracy"] > 0.9
    assert trained.metrics["masked_weights"] == 24
    convolution = Supermask(model="cnn", channels=(4,), place="outputs", epochs=1)
    images = Rows(np.zeros((8, 1, 8, 8), np.float32), np.arange(8) % 2, tuple(map(str, range(8))), 2, "images")
    held = convolution.fit(images, np.ones(8, np.bool_), seeds=Seeds(1), device="cpu")
    assert held.metrics["masked_weights"] == 4 * 4 * 4


def test_mistakes_are_named(blobs: Rows) -> None:
    with pytest.raises(ConfigError, match="place must be"):
        Supermask(place="inputs")  # type: ignore[arg-type]
    with pytest.raises(IncompatibleError, match="nothing to mask"):
        Supermask(hidden=(), place="outputs").fresh_model(blobs, seeds=Seeds(1), device="cpu")


def test_a_fresh_bernoulli_model_holds_a_drawn_mask(blobs: Rows) -> None:
    """The thresholded mask of equal scores is empty, and no gradient would pass it."""
    trainer = Supermask(hidden=(24,))
    module = trainer.fresh_model(blobs, seeds=Seeds(1), device="cpu")
    again = trainer.fresh_model(blobs, seeds=Seeds(1), device="cpu")
    assert torch.equal(module.present(), again.present())
    assert 0.3 < float(module.present().mean()) < 0.7
    assert torch.allclose(module.expected(), torch.full_like(module.frozen, 0.5))
    gradient = trainer.updates(module, torch.from_numpy(blobs.features[:2]), torch.from_numpy(blobs.labels[:2]))
    assert gradient.abs().sum() > 0
    assert not module.seal().bits().any()
