"""Per-sample gradients of transformers models by Opacus: rules for the layers that it does not know."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def per_sample(module: nn.Module) -> Any:
    """The module with Opacus's hooks, with direct rules for GPT-2's transposed linear layers and Llama's norms.

    Tied embeddings are one parameter used by two layers: Opacus adds up both layers' gradients of each record before
    clipping. The hooks stay on `module`: train a copy where it is to be used further.
    """
    from opacus.grad_sample import GradSampleModule
    from transformers.models.bert.modeling_bert import BertLMPredictionHead
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.pytorch_utils import Conv1D

    rules = {Conv1D: conv1d_gradients, LlamaRMSNorm: root_mean_square_gradients, BertLMPredictionHead: no_gradients}
    GradSampleModule.GRAD_SAMPLERS.update(rules)
    return GradSampleModule(module, loss_reduction="sum")


def conv1d_gradients(layer: Any, activations: list[Tensor], backprops: Tensor) -> dict[Any, Tensor]:
    """Per-record gradients of `x @ weight + bias`: activations (records, length, in), backprops (records, length,
    out)."""
    out: dict[Any, Tensor] = {}
    if layer.weight.requires_grad:
        out[layer.weight] = torch.einsum("nli,nlo->nio", activations[0], backprops)
    if layer.bias.requires_grad:
        out[layer.bias] = backprops.sum(dim=1)
    return out


def root_mean_square_gradients(layer: Any, activations: list[Tensor], backprops: Tensor) -> dict[Any, Tensor]:
    """Per-record gradients of the weight in `weight * x / sqrt(mean(x^2) + epsilon)`, both (records, length, width)."""
    if not layer.weight.requires_grad:
        return {}
    size = activations[0].pow(2).mean(dim=-1, keepdim=True) + layer.variance_epsilon
    return {layer.weight: (backprops * activations[0] * size.rsqrt()).sum(dim=1)}


def no_gradients(layer: Any, activations: list[Tensor], backprops: Tensor) -> dict[Any, Tensor]:  # noqa: ARG001
    """Nothing: BERT's head owns its decoder's bias without using it, and the decoder's own rule covers it."""
    return {}
