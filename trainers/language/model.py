"""Language models as modules of token rows: fresh by size, or of a stored configuration. No foreign code runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.seeds import Seeds

Architecture = Literal["gpt2", "llama", "bert"]
Objective = Literal["causal", "masked"]
OBJECTIVES: dict[str, Objective] = {"gpt2": "causal", "llama": "causal", "bert": "masked"}
"""What a model type is trained for, by the names that stored configurations use."""
NEW_TOKEN_DEVIATION = 0.02
"""Standard deviation of a new token's embedding around the mean of all others."""


@dataclass(frozen=True, slots=True)
class Size:
    """The kind and shape of a fresh model. For a pretrained one only `objective` counts."""

    layers: int
    width: int
    heads: int
    architecture: Architecture = "gpt2"
    objective: Objective = "causal"

    def __post_init__(self) -> None:
        if self.architecture not in OBJECTIVES:
            raise ConfigError(f"language: architecture must be one of {', '.join(OBJECTIVES)}, got {self.architecture}")
        if self.objective not in OBJECTIVES.values():
            raise ConfigError(f"language: objective must be 'causal' or 'masked', got {self.objective!r}")
        for key in ("layers", "width", "heads"):
            if getattr(self, key) < 1:
                raise ConfigError(f"language: {key} must be >= 1, got {getattr(self, key)}")
        if self.width % self.heads:
            raise ConfigError(f"language: width {self.width} must be a multiple of heads {self.heads}")
        if self.architecture == "llama" and (self.width // self.heads) % 2:
            raise ConfigError(
                f"language: width / heads must be even for 'llama', whose positions turn pairs of numbers, got "
                f"{self.width} / {self.heads}"
            )


class LanguageModel(nn.Module):
    """A transformers model `inner` with a language modelling head, on token rows (records, length)."""

    objective: Objective

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    @property
    def vocabulary(self) -> int:
        """Number of token ids it reads and predicts."""
        return int(self.inner.get_input_embeddings().weight.shape[0])


class CausalModel(LanguageModel):
    """A causal model: logits (records, length, vocabulary) of the next token.

    Position ids are expanded to one row a record: GPT-2 makes a single row for the whole batch, with which per-sample
    gradients of the position embedding have no record axis, and Opacus fails.
    """

    objective: Objective = "causal"

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next token at every place."""
        logits: Tensor = self.inner(input_ids=tokens, position_ids=_positions(tokens), use_cache=False).logits
        return logits

    def extend(self, tokens: Tensor, cache: Any, start: int) -> tuple[Tensor, Any]:
        """Logits (records, vocabulary) after `tokens` (records, more), which follow `start` tokens held in `cache`, and
        the cache grown by them."""
        answer = self.inner(
            input_ids=tokens, position_ids=_positions(tokens, start), past_key_values=cache, use_cache=True
        )
        return answer.logits[:, -1], answer.past_key_values


class MaskedModel(LanguageModel):
    """A bidirectional model: logits (records, length, vocabulary) of the token at each place itself. Places that hold
    `padding` are not attended to; `mask` is the id that hides a token."""

    objective: Objective = "masked"

    def __init__(self, inner: Any, *, padding: int, mask: int) -> None:
        super().__init__(inner)
        self.padding, self.mask = padding, mask

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token at every place."""
        logits: Tensor = self.inner(
            input_ids=tokens,
            position_ids=_positions(tokens),
            token_type_ids=torch.zeros_like(tokens),
            attention_mask=(tokens != self.padding).long(),
        ).logits
        return logits


def _positions(tokens: Tensor, start: int = 0) -> Tensor:
    return torch.arange(start, start + tokens.shape[1], device=tokens.device).expand(len(tokens), -1)


def fresh_model(
    size: Size, *, vocabulary: int, length: int, seeds: Seeds, padding: int = 0, mask: int = 0
) -> LanguageModel:
    """A model of `size` for rows of up to `length` tokens, without dropout, initialised from `seeds`. `padding` and
    `mask` are ids that masked models need. Raises `IncompatibleError` for an objective the architecture is not for."""
    require_objective(size.architecture, size.objective, f"architecture {size.architecture!r}")
    with seeds.torch_scope():
        return wrapped(_fresh(size, vocabulary, length), padding=padding, mask=mask)


def require_objective(model_type: str, objective: Objective, what: str) -> None:
    """Raise `IncompatibleError` unless `model_type` is one we train, and for `objective`."""
    fitting = OBJECTIVES.get(model_type)
    if fitting is None:
        raise IncompatibleError(f"language: {what} is of type {model_type!r}; {', '.join(OBJECTIVES)} are trained")
    if fitting != objective:
        raise IncompatibleError(f"language: {what} needs objective = {fitting!r}, got {objective!r}")


def wrapped(inner: Any, *, padding: int, mask: int) -> LanguageModel:
    """The module around a transformers model, by its type."""
    if OBJECTIVES[inner.config.model_type] == "masked":
        return MaskedModel(inner, padding=padding, mask=mask)
    return CausalModel(inner)


def _fresh(size: Size, vocabulary: int, length: int) -> Any:
    makers = {"gpt2": _fresh_gpt2, "llama": _fresh_llama, "bert": _fresh_bert}
    return _of_config(makers[size.architecture](size, vocabulary, length))


def _fresh_gpt2(size: Size, vocabulary: int, length: int) -> Any:
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=vocabulary,
        n_positions=length,
        n_embd=size.width,
        n_layer=size.layers,
        n_head=size.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )


def _fresh_llama(size: Size, vocabulary: int, length: int) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=size.width,
        # The gated layer has three matrices: at 8 / 3 of the width it has the parameters of GPT-2's (Shazeer 2020).
        intermediate_size=8 * size.width // 3,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=length,
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


def _fresh_bert(size: Size, vocabulary: int, length: int) -> Any:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.width,
        max_position_embeddings=length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=None,
    )


def model_of_config(values: dict[str, Any], *, padding: int = 0, mask: int = 0) -> LanguageModel:
    """The architecture of a stored configuration; its weights are meant to be overwritten."""
    from transformers import AutoConfig

    model_type = str(values.get("model_type"))
    if model_type not in OBJECTIVES:
        raise IncompatibleError(f"language: a model of type {model_type!r}; {', '.join(OBJECTIVES)} are trained")
    config = AutoConfig.for_model(**values)
    with Seeds(0).torch_scope():
        return wrapped(_of_config(config), padding=padding, mask=mask)


def _of_config(config: Any) -> Any:
    from transformers import BertForMaskedLM, GPT2LMHeadModel, LlamaForCausalLM

    makers: dict[str, Any] = {"gpt2": GPT2LMHeadModel, "llama": LlamaForCausalLM, "bert": BertForMaskedLM}
    return makers[config.model_type](config)


def with_extra_tokens(model: LanguageModel, count: int, seeds: Seeds) -> LanguageModel:
    """`model`, changed in place, with `count` more token ids behind its own.

    New rows of the input embedding, and of an output layer of its own, are the mean of the old ones plus noise of
    deviation 0.02 from `seeds`: so no new token is likelier than the average one (Hewitt 2021, "Initializing New Word
    Embeddings for Pretrained Language Models"), which random rows are not guaranteed to be.
    """
    if count == 0:
        return model
    before = model.vocabulary
    with seeds.torch_scope(), torch.no_grad():
        model.inner.resize_token_embeddings(before + count, mean_resizing=False)
        weights = {id(layer.weight): layer.weight for layer in _embeddings(model.inner)}
        for weight in weights.values():
            noise = torch.randn(count, weight.shape[1]) * NEW_TOKEN_DEVIATION
            weight[before:] = weight[:before].mean(dim=0) + noise.to(weight)
        bias = getattr(model.inner.get_output_embeddings(), "bias", None)
        if bias is not None:
            bias[before:] = bias[:before].mean()
    return model


def _embeddings(inner: Any) -> list[Any]:
    return [inner.get_input_embeddings(), inner.get_output_embeddings()]
