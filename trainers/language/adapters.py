"""LoRA (Hu et al. 2022, arXiv 2106.09685): low-rank adapters of linear layers are trained, all else is frozen."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...audit.errors import ConfigError, IncompatibleError, PrerequisiteError
from ...audit.seeds import Seeds

if TYPE_CHECKING:
    from .model import LanguageModel

TARGETS = {
    "gpt2": ("c_attn", "c_proj", "c_fc"),
    "llama": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "bert": ("query", "key", "value", "dense"),
}
"""Layers that get adapters by default, by model type: all linear ones of a block."""


@dataclass(frozen=True, slots=True)
class Adapters:
    """`rank` and `alpha`: the product of the two factors is scaled by alpha / rank. `targets` are the last parts of
    layer names; none: those of `TARGETS`."""

    rank: int
    alpha: float
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"language: lora_rank must be >= 0, got {self.rank}")
        if not self.alpha > 0:
            raise ConfigError(f"language: lora_alpha must be > 0, got {self.alpha}")


def with_adapters(model: LanguageModel, adapters: Adapters, seeds: Seeds) -> LanguageModel:
    """`model`, changed in place: adapters drawn from `seeds`, all else frozen. The first answer is unchanged, for the
    second factor is zero. Raises `PrerequisiteError` without peft, `IncompatibleError` for targets not found."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise PrerequisiteError("language: lora_rank needs the package peft: pip install leakgauge[peft]") from None
    model_type = model.inner.config.model_type
    config = LoraConfig(
        r=adapters.rank,
        lora_alpha=adapters.alpha,  # type: ignore[arg-type]  # peft divides it by the rank, whatever its type
        lora_dropout=0.0,
        bias="none",
        target_modules=list(adapters.targets or TARGETS[model_type]),
        fan_in_fan_out=model_type == "gpt2",
    )
    with seeds.torch_scope(), warnings.catch_warnings():
        # peft 0.21 asks transformers 5 for a property under its old name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        try:
            model.inner = get_peft_model(model.inner, config)
        except ValueError as error:
            reason = " ".join(str(error).split())[:200]
            raise IncompatibleError(f"language: lora_targets {adapters.targets!r} do not fit: {reason}") from None
    return model


def merged(model: LanguageModel) -> LanguageModel:
    """`model`, changed in place, with its adapters added to the weights they adapt."""
    inner: Any = model.inner
    model.inner = inner.merge_and_unload()
    return model
