"""One observed training step of `sgd` and `dp-sgd`: per-record gradients, clipped as training clips them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..audit.bounds.gaussian import gaussian_epsilon
from ..audit.errors import IncompatibleError
from ..audit.releases import ReleaseFacts
from ..audit.types import Claim, CurvePoint, Mechanism
from .recipe import Protection

if TYPE_CHECKING:
    from torch import Tensor, nn

CHUNK = 64
"""Records whose gradients are held at once."""
CURVE = (*(10.0**k for k in range(-9, 0)), 0.2, 0.3, 0.5)
"""Deltas at which the claim of one release is stated beside the one asked for."""


def per_record_gradients(module: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    """(records, parameters): the gradient of each record's own cross-entropy, parameters in the module's order.

    `IncompatibleError` for a module that couples the records of a batch (batch normalisation in training mode).
    """
    import torch
    from torch.func import functional_call, grad, vmap
    from torch.nn.functional import cross_entropy

    weights = {k: v.detach() for k, v in module.named_parameters() if v.requires_grad}
    fixed = {k: v.detach() for k, v in [*module.named_buffers(), *module.named_parameters()] if k not in weights}

    def loss(parameters: dict[str, Tensor], record: Tensor, label: Tensor) -> Tensor:
        output = functional_call(module, {**parameters, **fixed}, (record.unsqueeze(0),))
        return cross_entropy(output, label.unsqueeze(0))

    try:
        gradient: Any = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")
        parts = []
        for start in range(0, len(labels), CHUNK):
            chunk = gradient(weights, features[start : start + CHUNK], labels[start : start + CHUNK])
            parts.append(torch.cat([g.flatten(1) for g in chunk.values()], dim=1))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise IncompatibleError(f"this model has no gradient of one record alone: {reason}") from None
    out: Tensor = torch.cat(parts)
    return out


def clipped(updates: Tensor, norm: float) -> Tensor:
    """Rows scaled down to L2 norm `norm` where they are longer."""
    lengths = updates.norm(dim=1, keepdim=True)
    scaled: Tensor = updates * (norm / lengths.clamp(min=norm))
    return scaled


def gaussian_release(protection: Protection | None, delta: float) -> ReleaseFacts:
    """The facts of one step at full participation: nothing is gained from sampling, as the observer knows the batch."""
    if protection is None:
        return ReleaseFacts(None, 0.0, None, "the gradient of one batch")
    sigma = protection.noise_multiplier
    curve = tuple(CurvePoint(d, gaussian_epsilon(1 / sigma, d)) for d in sorted({*CURVE, delta}))
    claim = Claim(
        epsilon=gaussian_epsilon(1 / sigma, delta),
        delta=delta,
        mechanism=Mechanism("gaussian", (("noise_multiplier", sigma),)),
        accountant="exact Gaussian curve (Balle and Wang 2018)",
        curve=curve,
        assumes=(
            "one step at full participation: the observer knows who is in the batch, so sampling hides nothing",
            "each record's gradient is clipped over all parameters together",
        ),
    )
    noise = sigma * protection.max_grad_norm
    return ReleaseFacts(protection.max_grad_norm, noise, claim, "the clipped and noised gradient sum of one batch")
