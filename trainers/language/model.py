"""GPT-2 models: fresh by size, or pretrained from a folder or the Hub. Safetensors only; no foreign code runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...audit.errors import ConfigError, IncompatibleError, PrerequisiteError
from ...audit.seeds import Seeds


@dataclass(frozen=True, slots=True)
class Size:
    """The shape of a fresh model."""

    layers: int
    width: int
    heads: int

    def __post_init__(self) -> None:
        for key in ("layers", "width", "heads"):
            if getattr(self, key) < 1:
                raise ConfigError(f"language: {key} must be >= 1, got {getattr(self, key)}")
        if self.width % self.heads:
            raise ConfigError(f"language: width {self.width} must be a multiple of heads {self.heads}")


class CausalModel(nn.Module):
    """A causal model of token rows (records, length): logits (records, length, vocabulary).

    Position ids are expanded to one row a record: GPT-2 makes a single row for the whole batch, with which per-sample
    gradients of the position embedding have no record axis, and Opacus fails.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next token at every place."""
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
        logits: Tensor = self.inner(input_ids=tokens, position_ids=positions, use_cache=False).logits
        return logits

    def extend(self, tokens: Tensor, cache: Any, start: int) -> tuple[Tensor, Any]:
        """Logits (records, vocabulary) after `tokens` (records, more), which follow `start` tokens held in `cache`, and
        the cache grown by them."""
        positions = torch.arange(start, start + tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
        answer = self.inner(input_ids=tokens, position_ids=positions, past_key_values=cache, use_cache=True)
        return answer.logits[:, -1], answer.past_key_values


def fresh_model(size: Size, *, vocabulary: int, length: int, seeds: Seeds) -> CausalModel:
    """A GPT-2 of `size` for rows of up to `length` tokens, without dropout, initialised from `seeds`."""
    with seeds.torch_scope():
        return CausalModel(_gpt2(_config(size, vocabulary, length)))


def _config(size: Size, vocabulary: int, length: int) -> Any:
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


def _gpt2(config: Any) -> Any:
    from transformers import GPT2LMHeadModel

    return GPT2LMHeadModel(config)


def model_of_config(values: dict[str, Any]) -> CausalModel:
    """The architecture of a stored configuration; its weights are meant to be overwritten."""
    from transformers import GPT2Config

    with Seeds(0).torch_scope():
        return CausalModel(_gpt2(GPT2Config(**values)))


def pretrained_folder(source: str, revision: str | None) -> Path:
    """Where the files of a pretrained model lie: a local folder, or the Hub's cache at a pinned revision, of which
    only safetensors and JSON are fetched. Raises `ConfigError` without a revision, `PrerequisiteError` where it cannot
    be had."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if revision is None:
        raise ConfigError(f"language: pretrained = {source!r} is no folder, so it needs revision (a commit on the Hub)")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=["*.safetensors", "*.json"]))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise PrerequisiteError(f"language: {source!r} at {revision!r} cannot be fetched: {reason}") from None


def read_pretrained(folder: Path) -> CausalModel:
    """A GPT-2 with the weights in `folder`, dropout off. Refuses other architectures and weights that are not
    safetensors."""
    from transformers import AutoConfig, GPT2LMHeadModel

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if config.model_type != "gpt2":
            raise IncompatibleError(f"language: {folder} holds a {config.model_type!r} model; only 'gpt2' is trained")
        config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
        inner: Any = GPT2LMHeadModel.from_pretrained(
            folder, config=config, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
        return CausalModel(inner.float())
    except (OSError, ValueError) as error:
        raise PrerequisiteError(f"language: {folder} cannot be loaded: {' '.join(str(error).split())[:300]}") from None
