"""A trained autoencoder as queries see it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..tensors import CHUNK, feature_tensor
from .networks import AutoencoderNetwork


class AutoencoderTarget:
    """Implements `audit.representation.Representation`, and `Target`: it knows no labels, so all classes are equal."""

    def __init__(self, model: AutoencoderNetwork, classes: int, device: str) -> None:
        self.model, self.classes, self.device = model.to(device).eval(), classes, device

    def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """As in `Target`: every class has the same probability, whatever the record."""
        return np.full((len(features), self.classes), -math.log(self.classes), np.float32)

    def encode(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """As in `Representation`."""
        return self._each(features, self.model.encoder)

    def reconstruct(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """As in `Representation`."""
        return self._each(features, self.model)

    @torch.inference_mode()
    def _each(self, features: NDArray[Any], function: Callable[[Tensor], Tensor]) -> NDArray[np.float32]:
        records = feature_tensor(features, dtype=torch.float32, device=self.device)
        return np.concatenate([function(part).cpu().numpy() for part in torch.split(records, CHUNK)])
