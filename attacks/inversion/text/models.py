"""GPT-2 and BERT of transformers as a span attack reads them: first inputs, second inputs, and their gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ....audit.errors import ConfigError
from ....audit.seeds import Seeds

Architecture = Literal["gpt2", "bert"]


class TextModel(Protocol):
    """A transformer whose first two layers can be asked for their inputs."""

    @property
    def module(self) -> Any:
        """The transformers model."""

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""

    @property
    def width(self) -> int:
        """Width of the residual stream."""

    def loss(self, tokens: Any) -> Any:
        """The mean loss of a batch (batch, length): next tokens, or classes 0, 1, 0, ... of a classifier."""

    def watched(self) -> tuple[list[Any], list[Any]]:
        """The query, key and value weights of layer one and of layer two."""

    def joined(self, gradients: list[Any]) -> Any:
        """Gradients of one layer's watched weights as one matrix (width, outputs)."""

    def first_inputs(self, tokens: Any, position: int) -> Any:
        """What layer one sees of single tokens (n,) at a position: (n, width)."""

    def second_inputs(self, tokens: Any) -> Any:
        """What layer two sees of sequences (n, length): (n, length, width)."""


def build_text_model(
    architecture: Architecture, *, layers: int, width: int, heads: int, vocabulary: int, length: int, seeds: Seeds
) -> TextModel:
    """A randomly initialised model in evaluation mode. `ConfigError` for sizes that do not fit.

    An encoder needs three layers: its loss reads one position, so in the last layer's weights a sequence leaves a
    gradient of rank at most 2 heads + 1 (one query; keys and values of a head all point one way), below its tokens.
    """
    least = 2 if architecture == "gpt2" else 3
    if width % heads or layers < least:
        raise ConfigError(
            f"text model: width {width} must be a multiple of {heads} heads, and layers {layers} at least {least} for "
            f"{architecture}"
        )
    if architecture == "gpt2":
        return _gpt2(layers, width, heads, vocabulary, length, seeds)
    return _bert(layers, width, heads, vocabulary, length, seeds)


def _gpt2(layers: int, width: int, heads: int, vocabulary: int, length: int, seeds: Seeds) -> TextModel:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_layer=layers,
        n_embd=width,
        n_head=heads,
        vocab_size=vocabulary,
        n_positions=length,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    with seeds.torch_scope():
        module: Any = GPT2LMHeadModel(config)
    return Gpt2(module.eval())


def _bert(layers: int, width: int, heads: int, vocabulary: int, length: int, seeds: Seeds) -> TextModel:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        vocab_size=vocabulary,
        max_position_embeddings=length,
    )
    config.num_labels = 2
    with seeds.torch_scope():
        module: Any = BertForSequenceClassification(config)
    return Bert(module.eval())


@dataclass(frozen=True)
class Gpt2:
    """A causal language model; the loss is that of every next token, the end of the text included."""

    module: Any
    causal: bool = True

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return int(self.module.config.vocab_size)

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return int(self.module.config.n_embd)

    def loss(self, tokens: Any) -> Any:
        """As in `TextModel`; behind the last token stands token 0, the end."""
        import torch
        from torch.nn.functional import cross_entropy

        following = torch.cat([tokens[:, 1:], torch.zeros_like(tokens[:, :1])], dim=1)
        return cross_entropy(self.module(input_ids=tokens).logits.flatten(0, 1), following.flatten())

    def watched(self) -> tuple[list[Any], list[Any]]:
        """As in `TextModel`."""
        first, second = (self.module.transformer.h[k].attn.c_attn.weight for k in (0, 1))
        return [first], [second]

    def joined(self, gradients: list[Any]) -> Any:
        """As in `TextModel`: queries, keys and values share one weight, inputs first."""
        return gradients[0]

    def first_inputs(self, tokens: Any, position: int) -> Any:
        """As in `TextModel`."""
        body = self.module.transformer
        return body.h[0].ln_1(body.wte(tokens) + body.wpe.weight[position]).detach()

    def second_inputs(self, tokens: Any) -> Any:
        """As in `TextModel`."""
        hidden = self.module.transformer(input_ids=tokens, output_hidden_states=True).hidden_states[1]
        return self.module.transformer.h[1].ln_1(hidden)


@dataclass(frozen=True)
class Bert:
    """An encoder with a classification head."""

    module: Any
    causal: bool = False

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return int(self.module.config.vocab_size)

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return int(self.module.config.hidden_size)

    def loss(self, tokens: Any) -> Any:
        """As in `TextModel`."""
        import torch
        from torch.nn.functional import cross_entropy

        labels = torch.arange(len(tokens)) % 2
        return cross_entropy(self.module(input_ids=tokens).logits, labels)

    def watched(self) -> tuple[list[Any], list[Any]]:
        """As in `TextModel`."""
        first, second = (self.module.bert.encoder.layer[k].attention.self for k in (0, 1))
        return [first.query.weight, first.key.weight, first.value.weight], [
            second.query.weight,
            second.key.weight,
            second.value.weight,
        ]

    def joined(self, gradients: list[Any]) -> Any:
        """As in `TextModel`."""
        import torch

        return torch.cat([g.T for g in gradients], dim=1)

    def first_inputs(self, tokens: Any, position: int) -> Any:
        """As in `TextModel`."""
        parts = self.module.bert.embeddings
        summed = parts.word_embeddings(tokens) + parts.position_embeddings.weight[position]
        return parts.LayerNorm(summed + parts.token_type_embeddings.weight[0]).detach()

    def second_inputs(self, tokens: Any) -> Any:
        """As in `TextModel`."""
        return self.module.bert(input_ids=tokens, output_hidden_states=True).hidden_states[1]


def released_gradients(
    model: TextModel, tokens: Any, *, clip: float | None, noise: float, seeds: Seeds
) -> tuple[Any, Any]:
    """Gradients (width, outputs) of the watched weights of layers one and two for a batch (batch, length).

    With `clip`, each sequence's gradient is clipped over all parameters together, noise of standard deviation `noise`
    is added to every coordinate of the sum, and the sum divided by the batch size.
    """
    watched = model.watched()
    found = released_of(model, tokens, [*watched[0], *watched[1]], clip=clip, noise=noise, seeds=seeds)
    cut = len(watched[0])
    return model.joined(found[:cut]), model.joined(found[cut:])


def released_of(
    model: TextModel, tokens: Any, wanted: list[Any], *, clip: float | None, noise: float, seeds: Seeds
) -> list[Any]:
    """As `released_gradients`, for any parameters of the model."""
    import torch

    if clip is None:
        return [g.detach() for g in torch.autograd.grad(model.loss(tokens), wanted)]
    return [g.detach() for g in _clipped_and_noised(model, tokens, wanted, clip, noise, seeds)]


def _clipped_and_noised(
    model: TextModel, tokens: Any, wanted: list[Any], clip: float, noise: float, seeds: Seeds
) -> list[Any]:
    import torch

    everything = [p for p in model.module.parameters() if p.requires_grad]
    places = [next(k for k, p in enumerate(everything) if p is w) for w in wanted]
    sums = [torch.zeros_like(w) for w in wanted]
    for sequence in tokens:
        gradients = torch.autograd.grad(model.loss(sequence.unsqueeze(0)), everything, allow_unused=True)
        norm = torch.stack([g.norm() for g in gradients if g is not None]).norm()
        factor = (clip / norm).clamp(max=1.0)
        for total, place in zip(sums, places, strict=True):
            total += factor * gradients[place]
    draws = seeds.torch_generator()
    return [(s + noise * torch.randn(s.shape, generator=draws)) / len(tokens) for s in sums]
