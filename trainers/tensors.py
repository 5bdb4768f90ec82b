"""Rows as tensors, and how well a module fits them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

CHUNK = 1024
"""Rows evaluated at a time."""


def feature_tensor(features: NDArray[Any], *, dtype: torch.dtype, device: str) -> Tensor:
    """Features on the device: integers (token ids) as int64, everything else as `dtype`."""
    import torch

    kind = torch.int64 if np.issubdtype(features.dtype, np.integer) else dtype
    # A copy where the array is read-only (memory-mapped): tensors cannot say so.
    return torch.from_numpy(np.require(features, requirements=["C", "W"])).to(device=device, dtype=kind)


def label_tensor(labels: NDArray[np.int64], *, device: str) -> Tensor:
    """Labels (records,) int64 on the device."""
    import torch

    return torch.from_numpy(np.require(labels, requirements=["C", "W"])).to(device=device, dtype=torch.int64)


@dataclass(frozen=True, slots=True)
class FitQuality:
    """Mean cross-entropy (nats) and share of right answers on some rows; NaN-free, zero rows give zeros."""

    loss: float
    accuracy: float


def fit_quality(module: nn.Module, features: Tensor, labels: Tensor, positions: Tensor) -> FitQuality:
    """How well `module`, in evaluation mode, fits the rows at `positions`. Its mode is as before afterwards."""
    import torch
    from torch.nn import functional

    if not len(positions):
        return FitQuality(0.0, 0.0)
    was_training = module.training
    module.eval()
    loss, right = 0.0, 0
    with torch.inference_mode():
        for part in torch.split(positions, CHUNK):
            logits, answers = module(features[part]), labels[part]
            loss += float(functional.cross_entropy(logits, answers, reduction="sum"))
            right += int((logits.argmax(1) == answers).sum())
    module.train(was_training)
    return FitQuality(loss / len(positions), right / len(positions))
