from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from leakgauge.audit.errors import ConfigError, IncompatibleError, StaleArtifactError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows
from leakgauge.trainers.models import ModelSpec
from leakgauge.trainers.supermask.bits import load_mask, pack, save_mask, unpack
from leakgauge.trainers.supermask.frozen import FrozenSpec, frozen_digest, maskable
from leakgauge.trainers.supermask.module import Masked
from leakgauge.trainers.supermask.rules import RULES, Rule
from leakgauge.trainers.supermask.trainer import Supermask


def masked(rule: str = "bernoulli", *, seed: int = 0, head: str = "masked", hidden: int = 6) -> Masked:
    spec = FrozenSpec(ModelSpec("mlp", (hidden,)), "kaiming", seed)
    network = spec.build((8,), 4)
    generator = Seeds(5).torch_generator()
    module = Masked(network, maskable(network), Rule(rule), head=head, generator=generator)  # type: ignore[arg-type]
    with torch.no_grad():
        module.scores.copy_(torch.randn(module.scores.shape, generator=generator))
    return module


@pytest.mark.parametrize("rule", RULES)
def test_the_output_is_that_of_the_network_with_masked_weights(rule: str) -> None:
    """Oracle: multiply the weights by hand and call the plain network."""
    module, x = masked(rule), torch.randn(5, 8)
    plain = FrozenSpec(ModelSpec("mlp", (6,)), "kaiming", 0).build((8,), 4)
    for piece in module.pieces:
        scores = module.scores.detach()[piece.place].numpy()
        if rule == "top-k":
            keep = np.zeros(len(scores))
            keep[np.argsort(-abs(scores))[: round(len(scores) / 2)]] = 1
        else:
            keep = np.where(scores > 0, 1.0, -1.0 if rule == "sign" else 0.0)
        plain.get_parameter(piece.name).data *= torch.from_numpy(keep).float().view(piece.shape)
    assert torch.allclose(module(x), plain(x), atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_straight_through_gradient(rule: str) -> None:
    """d loss / d s = d loss / d multiplier times the derivative of what the gradient passes through."""
    module, x = masked(rule), torch.randn(5, 8)
    module(x).square().sum().backward()
    s = module.scores.detach()
    multiplier = module.rule.values(module.rule.bits(s, module.layers)).requires_grad_()
    flat = module.frozen * multiplier
    weights = {p.name: flat[p.place].view(p.shape) for p in module.pieces}
    torch.func.functional_call(module.network, weights, (x,)).square().sum().backward()
    slope = {"top-k": s.sign(), "bernoulli": s.sigmoid() * (1 - s.sigmoid())}.get(rule, torch.ones_like(s))
    assert module.scores.grad is not None
    assert multiplier.grad is not None
    assert torch.allclose(module.scores.grad, multiplier.grad * slope, atol=1e-5)
    assert module.frozen.grad is None


def test_sampled_bits_follow_sigmoid_of_the_score() -> None:
    """4000 draws at three scores; each share within 4 standard errors: fails by chance 2e-4 of the time."""
    scores = torch.tensor([-1.0, 0.0, 2.0])
    generator = Seeds(3).torch_generator()
    draws = torch.stack([Rule().bits(scores, [], torch.rand(3, generator=generator)) for _ in range(4000)]).mean(0)
    expected = scores.sigmoid()
    assert ((draws - expected).abs() < 4 * (expected * (1 - expected) / 4000).sqrt()).all()


class Tiny(nn.Module):
    """One of each maskable kind, and layers that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.convolution = nn.Conv1d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.embedding(tokens)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        x = self.convolution(x.transpose(1, 2)).mean(2)
        out: torch.Tensor = self.head(x)
        return out


def tiny(_shape: tuple[int, ...], _classes: int) -> nn.Module:
    return Tiny()


def small_bert(_shape: tuple[int, ...], classes: int) -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=11,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        num_labels=classes,
        max_position_embeddings=16,
        initializer_range=0.4,
    )
    return BertForSequenceClassification(config)


def small_gpt2(_shape: tuple[int, ...], classes: int) -> nn.Module:
    from transformers import GPT2Config, GPT2ForSequenceClassification

    config = GPT2Config(
        vocab_size=11,
        n_embd=8,
        n_layer=1,
        n_head=2,
        n_positions=16,
        num_labels=classes,
        pad_token_id=0,
        initializer_range=0.4,
    )
    return GPT2ForSequenceClassification(config)


def test_embeddings_attention_and_convolution_are_masked_and_normalisation_is_not() -> None:
    names = {p.name for p in maskable(Tiny())}
    assert names == {
        "embedding.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "convolution.weight",
        "head.weight",
    }
    assert {p.name for p in maskable(Tiny(), ("attention", "head"))} == {n for n in names if n[0] in "ah"}
    with pytest.raises(ConfigError, match="'tail'"):
        maskable(Tiny(), ("tail",))
    with pytest.raises(IncompatibleError, match="mask"):
        maskable(nn.LayerNorm(3))


@pytest.mark.parametrize("model", ["tiny", "small_bert", "small_gpt2"])
def test_other_architectures_learn_and_come_back(model: str, tmp_path: object) -> None:
    generator = Seeds(8).generator()
    labels = generator.integers(0, 2, 60)
    tokens = generator.integers(1, 6, (60, 7)) + 5 * labels[:, None]
    data = Rows(tokens.astype(np.int64), labels, tuple(map(str, range(60))), 4, "tokens")
    trainer = Supermask(f"{__name__}:{model}", frozen="model", head="trained", epochs=15, batch_size=16)
    trained = trainer.fit(data, np.ones(60, np.bool_), seeds=Seeds(2), device="cpu")
    assert trained.metrics["train_accuracy"] > 0.9
    trainer.save(trained, tmp_path)  # type: ignore[arg-type]
    again = trainer.load(tmp_path, data, device="cpu")  # type: ignore[arg-type]
    assert np.array_equal(
        trained.target.log_probabilities(data.features), again.target.log_probabilities(data.features)
    )


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1001])
def test_packed_bits_round_trip(count: int) -> None:
    bits = Seeds(count).generator().random(count) < 0.3
    assert np.array_equal(unpack(pack(bits), count), bits)
    assert len(pack(bits)) == -(-count // 8)
    with pytest.raises(StaleArtifactError):
        unpack(pack(bits), count + 8)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("head", ["masked", "trained"])
def test_a_mask_file_round_trips(rule: str, head: str, tmp_path: object) -> None:
    module, other = masked(rule, head=head), masked(rule, head=head)
    path, x = tmp_path / "mask.safetensors", torch.randn(5, 8)  # type: ignore[operator]
    with torch.no_grad():
        other.scores.neg_()
        for name in module.free:
            module.network.get_parameter(name).add_(1.0)
    save_mask(module, path)
    load_mask(other, path)
    assert torch.equal(module.bits(), other.bits())
    assert torch.equal(module.seal()(x), other(x))


def test_a_mask_on_the_wrong_weights_is_refused(tmp_path: object) -> None:
    path = tmp_path / "mask.safetensors"  # type: ignore[operator]
    save_mask(masked(), path)
    with pytest.raises(IncompatibleError, match="frozen"):
        load_mask(masked(seed=1), path)
    with pytest.raises(IncompatibleError, match="frozen"):
        load_mask(masked(hidden=7), path)
    with pytest.raises(IncompatibleError, match="rule"):
        load_mask(masked("threshold"), path)
    one = masked()
    one.network.get_parameter(one.pieces[0].name).data[0, 0] += 1e-6
    with pytest.raises(IncompatibleError, match="frozen"):
        load_mask(one, path)
    path.write_bytes(b"nothing")
    with pytest.raises(StaleArtifactError):
        load_mask(masked(), path)


def test_frozen_weights_are_public_and_named() -> None:
    spec = FrozenSpec(ModelSpec("mlp", (6,)), "signed-constant")
    one, other = spec.build((8,), 4), spec.build((8,), 4)
    assert frozen_digest(one) == frozen_digest(other)
    weight = one.get_parameter("1.weight")
    assert torch.allclose(weight.abs(), torch.tensor((2 / (8 * 0.5)) ** 0.5))
    assert frozen_digest(one) != frozen_digest(FrozenSpec(ModelSpec("mlp", (6,)), "signed-constant", 1).build((8,), 4))
    assert not any(p.requires_grad for p in one.parameters())


def test_a_given_network_keeps_its_weights_but_for_gain_and_head() -> None:
    plain = FrozenSpec(ModelSpec("mlp", (6,)), "model").build((8,), 4)
    changed = FrozenSpec(ModelSpec("mlp", (6,)), "model", gain=2.0, fresh_head=True).build((8,), 4)
    assert torch.equal(changed.get_parameter("1.weight"), 2 * plain.get_parameter("1.weight"))
    assert torch.equal(changed.get_parameter("1.bias"), plain.get_parameter("1.bias"))
    assert torch.allclose(changed.get_parameter("3.weight").abs(), torch.tensor((2 / (6 * 0.5)) ** 0.5))
    assert not changed.get_parameter("3.bias").any()
    with pytest.raises(ConfigError, match="fresh_head"):
        FrozenSpec(ModelSpec("mlp"), "kaiming", fresh_head=True)
