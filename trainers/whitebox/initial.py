"""Worst-case initial parameters: where training starts decides how much of a canary is left in the final model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...audit.errors import ConfigError
from ...audit.types import Rows
from ..tensors import feature_tensor, label_tensor

if TYPE_CHECKING:
    from torch import nn


def saturate(
    module: nn.Module,
    public: Rows,
    *,
    steps: int = 300,
    learning_rate: float = 0.05,
    scale: float = 10.0,
    device: str = "cpu",
) -> nn.Module:
    """Fit `module` to `public` rows, disjoint from the private ones, and multiply its last linear layer by `scale`.

    Rows like the public ones then have next to no gradient, so nothing pulls the weights back after a canary's clipped
    gradient has moved them, and the final model keeps the sum of all steps. DP protects against every choice of initial
    parameters, so this is part of the threat model and not of the mechanism. Annamalai and De Cristofaro (2024, arXiv
    2405.14106). Full-batch Adam, deterministic; changes `module` in place and returns it.
    """
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    last = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if not last:
        raise ConfigError("saturate: the module has no linear layer whose output could be scaled")
    dtype = next(module.parameters()).dtype
    features = feature_tensor(public.features, dtype=dtype, device=device)
    labels = label_tensor(public.labels, device=device)
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(module(features), labels))
        optimizer.step()
    with torch.no_grad():
        for parameter in last[-1].parameters():
            parameter.mul_(scale)
    module.zero_grad()
    return module
