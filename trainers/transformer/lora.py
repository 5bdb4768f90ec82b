"""Low-rank additions to attention maps (Hu et al. 2022, arXiv 2106.09685), by the package peft."""

from __future__ import annotations

from torch import nn

from ...audit.errors import PrerequisiteError

TARGETS = ("query", "value")
"""The maps that the paper adapts (section 4.2)."""


def add_lora(layer: nn.Module, rank: int, alpha: float) -> None:
    """Replace the target maps in `layer` by themselves plus alpha / rank times a map of rank `rank`, in place.

    The addition starts at zero. The maps themselves lose their gradient; the two factors, plain linear layers, are
    trained. Raises `PrerequisiteError` without the package peft.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError:
        raise PrerequisiteError("transformer.lora_rank needs the package peft: pip install leakgauge[peft]") from None
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, bias="none", target_modules=list(TARGETS))  # type: ignore[arg-type]
    inject_adapter_in_model(config, layer)
