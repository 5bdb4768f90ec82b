"""Which labels were in the batch? Read from the gradient of the last linear layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError, IncompatibleError


def last_linear(module: Any) -> tuple[str, Any]:
    """Name and module of the last linear layer with a bias. `IncompatibleError` without one."""
    from torch import nn

    found = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Linear) and m.bias is not None]
    if not found:
        raise IncompatibleError("labels can be restored only from a model that ends in a linear layer with a bias")
    return found[-1]


def restore_labels(bias_gradient: Any, batch_size: int) -> NDArray[np.int64]:
    """Labels (batch_size,), sorted, of a batch from the mean gradient (classes,) of the last bias.

    Its entry for class c is the mean probability of c minus the share of c in the batch. For one record the only
    negative entry is the label (Zhao, Mopuri and Bilen 2020, arXiv 2001.02610). For more, the most negative entry is
    taken, 1 / batch_size is given back to it, and again (the idea of Wainakh et al. 2021, arXiv 2105.09369): exact
    while probabilities are near uniform. `ConfigError` for a batch size below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"the number of labels must be at least 1, got {batch_size}: declare the batch size")
    left = bias_gradient.detach().double().cpu().numpy().copy()
    chosen = []
    for _ in range(batch_size):
        label = int(left.argmin())
        chosen.append(label)
        left[label] += 1 / batch_size
    return np.sort(np.array(chosen, dtype=np.int64))
