"""How badly do images explain what a client's scores did? Likelihood of sampled bits, cosine of everything else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.releases import UploadFacts
from ..inversion.matching import Loss, Matching, total_variation
from .model import MaskedModel

SOFT = 0.1
"""Adam's sign of a gradient entry is replaced by g / (|g| + SOFT mean |g|), which has a derivative."""
WIDEST = 4.0
"""How far from the first guess, as a factor, the scale of an image is looked for."""
STEPS = 33
"""Scales that are tried before the best is refined."""


def score_gradient(model: MaskedModel, images: Any, labels: Any) -> Any:
    """(d,), differentiable in `images` (batch, ...): the mean loss's gradient in the scores, at the mask's expectation,
    since the masks that the client drew are its own."""
    import torch
    from torch.nn.functional import cross_entropy

    multipliers = model.expected().clone().requires_grad_()
    loss = cross_entropy(model.under(multipliers, images), labels)
    (gradient,) = torch.autograd.grad(loss, multipliers, create_graph=True)
    return gradient * model.slopes()


def upload_loss(observed: Any, model: MaskedModel, labels: Any, search: Matching, facts: UploadFacts) -> Loss:
    """Of images (restarts, batch, ...): how far the moves they would cause are from those `observed` (d,), negated."""
    reach = facts.learning_rate * facts.steps
    start = model.scores.detach()

    def distance(images: Any) -> Any:
        gradient = score_gradient(model, images, labels)
        if facts.optimizer == "adam":
            gradient = gradient / (gradient.abs() + SOFT * gradient.abs().mean().detach() + 1e-30)
        if facts.sampled and facts.smooth and facts.clamp is None:
            return bits_misfit(start - reach * gradient, start.sigmoid() - observed)
        return 1 - (gradient * observed).sum() / (gradient.norm() * observed.norm()).clamp(min=1e-30)

    def loss(images: Any) -> tuple[Any, Any]:
        import torch

        matched = torch.stack([distance(one) for one in images])
        return matched, matched + search.total_variation * total_variation(images)

    return loss


def bits_misfit(scores: Any, shares: Any) -> Any:
    """Minus the mean log-likelihood, in nats a bit, of `shares` (d,) of ones drawn with chances sigmoid(scores)."""
    from torch.nn.functional import softplus

    return (softplus(scores) - shares * scores).mean()


def exact_scale(
    guess: NDArray[np.float64], observed: Any, model: MaskedModel, labels: Any, scene: Any
) -> NDArray[np.float64]:
    """`guess` (in,) times the number, of either sign, under which its score gradient is closest to `observed` (d,): a
    first linear layer gives the direction exactly, and the others its length."""
    import torch
    from scipy.optimize import minimize_scalar
    from torch.nn.functional import cross_entropy

    values = torch.from_numpy(guess).to(scene.device, scene.dtype).view(1, *scene.private.shape[1:])
    multipliers = model.present()

    def misfit(factor: float) -> float:
        here = multipliers.clone().requires_grad_()
        loss = cross_entropy(model.under(here, values * factor), labels)
        (gradient,) = torch.autograd.grad(loss, here)
        return float((gradient * model.slopes() - observed).square().sum())

    sizes = np.geomspace(1 / WIDEST, WIDEST, STEPS)
    best, ratio = min([*sizes, *-sizes], key=misfit), float(sizes[1] / sizes[0])
    bounds = tuple(sorted((best / ratio, best * ratio)))
    # Units of ReLU that switch make steps in the misfit: one search in twenty ends on one, a thousandth off.
    found = minimize_scalar(misfit, bounds=bounds, method="bounded", options={"xatol": 1e-13})
    return guess * float(found.x)
