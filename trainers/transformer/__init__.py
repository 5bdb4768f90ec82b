"""Transformers that classify rows of tokens: fresh ones by size, pretrained ones, whole or in part, or by LoRA."""

from __future__ import annotations

from .spec import TransformerSpec, TransformerTable, transformer_spec

__all__ = ["TransformerSpec", "TransformerTable", "transformer_spec"]
