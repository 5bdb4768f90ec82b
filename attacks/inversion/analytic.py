"""Exact reconstruction from a linear layer: its weight gradient is the input, scaled by its bias gradient."""

from __future__ import annotations

from typing import Any

from ...audit.errors import ConfigError, IncompatibleError


def invert_linear(weight_gradient: Any, bias_gradient: Any, *, batch_size: int = 1) -> Any:
    """Inputs (batch_size, in) of a linear layer from the gradients (out, in) and (out,) of its weight and bias.

    For one record, dL/dW_i = dL/db_i x for every output i (Phong et al. 2018, IEEE TIFS 13(5)), so the rows, weighted
    by their bias gradient, give x exactly. For a batch each output is a mixture, sum_b d_bi x_b / sum_b d_bi; outputs
    that one record dominates still show it. With at least as many outputs as records, the `batch_size` rows of largest
    bias gradient are returned: for a softmax layer and distinct labels these are the records' own labels.
    `ConfigError` when no output has a bias gradient, or there are fewer outputs than records.
    """
    import torch

    if weight_gradient.ndim != 2 or bias_gradient.shape != weight_gradient.shape[:1]:
        raise IncompatibleError(
            f"a linear layer's gradients have shapes (out, in) and (out,), got {tuple(weight_gradient.shape)} and "
            f"{tuple(bias_gradient.shape)}"
        )
    if batch_size > len(bias_gradient):
        raise ConfigError(f"{batch_size} records do not show in a layer of {len(bias_gradient)} outputs")
    weight, bias = weight_gradient.double(), bias_gradient.double()
    if not bool(bias.abs().max() > 0):
        raise ConfigError("the bias gradient is zero: no record reached this layer")
    if batch_size == 1:
        return (bias @ weight / bias.square().sum()).unsqueeze(0).to(weight_gradient.dtype)
    # Negative entries are the records' own classes in a softmax layer; elsewhere the largest ones are as good.
    rows = (
        torch.argsort(bias)[:batch_size]
        if bool((bias < 0).sum() >= batch_size)
        else bias.abs().topk(batch_size).indices
    )
    return (weight[rows] / bias[rows].unsqueeze(1)).to(weight_gradient.dtype)


def first_linear(module: Any) -> str:
    """Name of the first layer if it is linear with a bias and sees the record itself; `IncompatibleError` otherwise."""
    from torch import nn

    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            return str(name)
        if any(True for _ in layer.parameters(recurse=False)):
            break
    raise IncompatibleError("the analytic attack needs a model whose first layer is linear with a bias (mlp, logistic)")


def follows_relu(module: Any, layer: str) -> None:
    """Refuse a module in which something else than ReLU comes behind `layer`."""
    from torch import nn

    leaves = [(name, part) for name, part in module.named_modules() if not any(True for _ in part.children())]
    place = next(k for k, (name, _) in enumerate(leaves) if name == layer)
    behind = leaves[place + 1][1] if place + 1 < len(leaves) else None
    if not isinstance(behind, nn.ReLU):
        seen = type(behind).__name__ if behind is not None else "nothing"
        raise IncompatibleError(f"method 'relu' needs ReLU behind layer {layer!r}, found {seen}; use model mlp")
