"""From a `TransformerSpec` to a module: fresh or pretrained weights, and which of them are trained."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...audit.errors import ConfigError, IncompatibleError, PrerequisiteError
from ...audit.seeds import Seeds
from ..data.text import PADDING, TOKENS
from ..data.tokens import text_tokenizer
from ..sources import public_folder
from .classifier import TransformerClassifier
from .files import WEIGHT_FILES, folder_digest
from .lora import add_lora
from .spec import TransformerSpec

KNOWN = ("bert",)
HEADS = ("pooler.", "cls.", "classifier.")
"""Parts of a stored model that are no part of the encoder."""


def build_classifier(spec: TransformerSpec, shape: tuple[int, ...], classes: int) -> TransformerClassifier:
    """A float32 module on the CPU whose fresh weights are drawn from torch's generator, frozen ones without gradient.

    Raises `ConfigError` where rows of `shape` or the number of layers do not fit, `IncompatibleError` for another
    architecture than BERT, `PrerequisiteError` where pretrained files or the package peft are missing.
    """
    if len(shape) != 1:
        raise ConfigError(
            f"model 'transformer' reads rows of tokens, got records of shape {shape}: set data.text_encoding = "
            "'tokens' or 'bytes'"
        )
    encoder, padding = _pretrained(spec) if spec.pretrained else _fresh(spec, shape[0])
    longest = encoder.config.max_position_embeddings
    if shape[0] > longest:
        raise ConfigError(
            f"model 'transformer' reads at most {longest} tokens, got rows of {shape[0]}: lower text_length"
        )
    module = TransformerClassifier(encoder, classes, padding)
    _freeze(module, spec)
    return module


def _fresh(spec: TransformerSpec, length: int) -> tuple[Any, int]:
    """A BERT of the specification's size, its weights drawn from torch's generator, and the padding id."""
    from transformers import BertConfig

    vocabulary, padding = TOKENS, PADDING
    if spec.tokenizer is not None:
        used = text_tokenizer(spec.tokenizer, spec.tokenizer_revision, "transformer.tokenizer")
        vocabulary, padding = used.vocabulary, used.padding
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=spec.width,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        intermediate_size=4 * spec.width,
        max_position_embeddings=length,
        type_vocab_size=1,
        pad_token_id=padding,
    )
    return _encoder(config), padding


def _pretrained(spec: TransformerSpec) -> tuple[Any, int]:
    """A copy of the stored encoder, and its padding id."""
    assert spec.pretrained is not None
    folder = public_folder(spec.pretrained, spec.revision, what="transformer.pretrained", patterns=WEIGHT_FILES)
    encoder = copy.deepcopy(_stored(folder, folder_digest(folder, WEIGHT_FILES)))
    return encoder, int(encoder.config.pad_token_id)


# Every model of an audit starts from the same one.
@lru_cache(maxsize=2)
def _stored(folder: Path, content: str) -> Any:
    """The encoder in `folder`: config.json and safetensors, nothing else is read and no code that lies there runs."""
    del content
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise PrerequisiteError(f"transformer.pretrained: {folder}: {' '.join(str(error).split())[:200]}") from None
    if config.model_type not in KNOWN or config.is_decoder:
        raise IncompatibleError(
            f"transformer.pretrained: {folder} holds a {config.model_type!r} model; 'transformer' trains encoders of "
            f"type {', '.join(KNOWN)}"
        )
    config.pad_token_id = 0 if config.pad_token_id is None else config.pad_token_id
    # Overwritten below; drawn in a scope of its own, so that the head does not depend on what was cached.
    with Seeds(0).torch_scope():
        encoder = _encoder(config)
    stored: dict[str, torch.Tensor] = {}
    try:
        for path in sorted(folder.glob("*.safetensors")):
            stored |= load_file(path)
        missing, unknown = encoder.load_state_dict(_own_names(stored), strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise PrerequisiteError(f"transformer.pretrained: {folder}: {' '.join(str(error).split())[:200]}") from None
    if missing or unknown:
        named = f"lacks {missing[0]!r}" if missing else f"has {unknown[0]!r} besides"
        raise PrerequisiteError(
            f"transformer.pretrained: {folder} has no safetensors of the whole encoder: it {named} "
            f"({len(missing)} missing, {len(unknown)} unknown)"
        )
    return encoder


def _own_names(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Stored weights under the encoder's names: without the prefix of a model with a head, and without its head."""
    out = {}
    for name, value in stored.items():
        own = name.removeprefix("bert.").replace(".gamma", ".weight").replace(".beta", ".bias")
        if not own.startswith(HEADS) and not own.endswith("position_ids"):
            out[own] = value
    return out


def _encoder(config: Any) -> Any:
    from transformers import BertModel

    # Plain products: torch's fused attention has no rule for vmap.
    config._attn_implementation = "eager"
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    encoder: Any = BertModel(config, add_pooling_layer=False)
    # With it autograd would leave out what Opacus counts; a padding token never matters in a row that holds others.
    encoder.embeddings.word_embeddings.padding_idx = None
    return encoder


def _freeze(module: TransformerClassifier, spec: TransformerSpec) -> None:
    """Turn off gradients below the trained layers, and add LoRA."""
    layers = module.encoder.encoder.layer
    wanted = len(layers) if spec.trained_layers is None else spec.trained_layers
    if wanted > len(layers):
        raise ConfigError(f"transformer.trained_layers = {wanted}, but the encoder has {len(layers)} layers")
    if spec.trained_layers is None and spec.lora_rank is None:
        return
    module.encoder.requires_grad_(False)
    module.frozen_layers = len(layers) - wanted
    top: list[nn.Module] = list(layers[len(layers) - wanted :])
    if spec.lora_rank is not None:
        for layer in top:
            add_lora(layer, spec.lora_rank, spec.lora_alpha)
    else:
        for layer in top:
            layer.requires_grad_(True)
    if spec.pretrained is not None:
        module.public_names = frozenset(n for n, p in module.named_parameters() if not p.requires_grad)
