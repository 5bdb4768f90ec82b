"""A module's trainable parameters as one flat vector, and its buffers apart from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError

if TYPE_CHECKING:
    from torch import nn

Flat = NDArray[np.floating[Any]]
"""Trainable parameters end to end, (dimension,), in the order of `module.parameters()`."""

Buffers = Mapping[str, NDArray[Any]]
"""Non-parameter state by name (running means, counters): travels beside the update and past clipping and noise."""


def dimension(module: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def read_parameters(module: nn.Module) -> Flat:
    """The trainable parameters, (dimension,), in the module's own type."""
    parts = [p.detach().cpu().numpy().ravel() for p in module.parameters() if p.requires_grad]
    if not parts:
        raise IncompatibleError("the model has no trainable parameter: nothing can be learned or sent")
    return np.concatenate(parts)


def write_parameters(module: nn.Module, flat: Flat) -> None:
    """Copy `flat` (dimension,) into the trainable parameters. `IncompatibleError` where the length differs."""
    import torch

    if flat.shape != (dimension(module),):
        raise IncompatibleError(f"weights have shape {flat.shape}, the model has {dimension(module)} parameters")
    start = 0
    with torch.no_grad():
        for p in module.parameters():
            if p.requires_grad:
                part = np.ascontiguousarray(flat[start : start + p.numel()])
                p.copy_(torch.from_numpy(part).view_as(p))
                start += p.numel()


def read_buffers(module: nn.Module) -> dict[str, NDArray[Any]]:
    """Copies of all buffers by name; empty for most models."""
    return {name: b.detach().cpu().numpy().copy() for name, b in module.named_buffers()}


def write_buffers(module: nn.Module, buffers: Buffers) -> None:
    """Copy `buffers` into the module. `IncompatibleError` where the names differ."""
    import torch

    own = dict(module.named_buffers())
    if own.keys() != buffers.keys():
        raise IncompatibleError(f"buffers {sorted(buffers)} do not fit a model with {sorted(own)}")
    with torch.no_grad():
        for name, buffer in own.items():
            buffer.copy_(torch.from_numpy(np.asarray(buffers[name])).view_as(buffer))


def mean_buffers(held: list[Buffers]) -> dict[str, NDArray[Any]]:
    """The plain mean of the clients' buffers in each buffer's type; integers (counters) are rounded."""
    out = {}
    for name, first in held[0].items():
        mean = np.mean([np.asarray(b[name], np.float64) for b in held], axis=0)
        out[name] = (np.rint(mean) if np.issubdtype(first.dtype, np.integer) else mean).astype(first.dtype)
    return out
