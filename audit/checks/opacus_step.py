"""One step of an Opacus optimizer behind the probes' interface. Needs torch and Opacus, imported on use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..seeds import Seeds
from ..types import FloatArray
from .sensitivity import Step


def opacus_step(
    *,
    noise_multiplier: float,
    max_grad_norm: float,
    expected_batch_size: int,
    shapes: Sequence[Sequence[int]],
    seeds: Seeds,
    optimizer_class: Any = None,
) -> Step:
    """A `Step` around `optimizer_class` (default: Opacus's `DPOptimizer`) for parameters of the given `shapes`.

    It sets the per-sample gradients as Opacus's hooks do and reads the gradient that the inner optimizer would get:
    `divisor` is `expected_batch_size`, `dimension` the number of all entries. One generator runs through all calls.
    """
    import torch
    from opacus.optimizers import DPOptimizer

    parameters = [torch.nn.Parameter(torch.zeros(*shape)) for shape in shapes]
    sizes = [math.prod(shape) for shape in shapes]
    optimizer = (optimizer_class or DPOptimizer)(
        torch.optim.SGD(parameters, lr=1.0),
        noise_multiplier=noise_multiplier,
        max_grad_norm=max_grad_norm,
        expected_batch_size=expected_batch_size,
        generator=seeds.torch_generator(),
    )

    def step(gradients: FloatArray, *, noise: bool) -> FloatArray:
        optimizer.zero_grad()
        optimizer.noise_multiplier = noise_multiplier if noise else 0.0
        parts = np.split(np.asarray(gradients, np.float32), np.cumsum(sizes)[:-1], axis=1)
        for parameter, part, shape in zip(parameters, parts, shapes, strict=True):
            # Opacus keeps per-example gradients in an attribute of its own on the parameter.
            setattr(parameter, "grad_sample", torch.from_numpy(part.reshape(len(part), *shape).copy()))  # noqa: B010
        optimizer.pre_step()
        updates = [parameter.grad for parameter in parameters]
        return np.concatenate([u.double().numpy().ravel() for u in updates if u is not None])

    return step
