"""Clipping without per-record gradients: norms from activations, then the clipped sum, in one backward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...audit.errors import IncompatibleError
from ..recipe import Recipe
from .objectives import Examples, example_losses

CHUNK = 128
"""Records whose activations are held at a time."""
ROUNDING = 8.0
"""Units in the last place by which a squared norm is raised."""


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a parameter by a layer, for the records of a chunk.

    "outer": each record's gradient is the sum over places of the outer product of `left` (records, length, rows) and
    `right` (records, length, columns). "rows": row `left` (records, length), integers, gets `right` at each place.
    "whole": `right` (records, ...) is the gradient itself.
    """

    kind: Literal["outer", "rows", "whole"]
    left: Tensor
    right: Tensor


def squared_norms(uses: list[Use]) -> Tensor:
    """Squared norm of each record's gradient of one parameter, summed over its `uses`, (records,).

    The inner product of two sums of outer products is the sum over pairs of places of the products of both factors'
    inner products (Goodfellow 2015, arXiv 1510.01799, for single places; Li et al. 2022, arXiv 2110.05679, section 4,
    for sequences); pairs of different uses make tied embeddings exact. What rounding may have taken away where places
    cancel each other is added, so that no record is clipped too little: a few units in the last place of the largest
    value the sum could have, which is that without cancellation.
    """
    total = torch.zeros(len(uses[0].right), dtype=uses[0].right.dtype, device=uses[0].right.device)
    for i, one in enumerate(uses):
        total = total + _product(one, one)
        for other in uses[i + 1 :]:
            total = total + 2 * _product(one, other)
    most = torch.stack([_largest(use) for use in uses]).sum(dim=0).square()
    return total.clamp_min(0) + ROUNDING * torch.finfo(total.dtype).eps * most


def _largest(use: Use) -> Tensor:
    """The norm that a use would have if its places all pointed the same way, (records,)."""
    if use.kind == "whole":
        whole: Tensor = torch.linalg.vector_norm(use.right.flatten(1), dim=1)
        return whole
    sizes: Tensor = torch.linalg.vector_norm(use.right, dim=2)
    if use.kind == "outer":
        sizes = sizes * torch.linalg.vector_norm(use.left, dim=2)
    return sizes.sum(dim=1)


def _product(one: Use, other: Use) -> Tensor:
    if one.kind == "whole" or other.kind == "whole":
        if one.kind != other.kind:
            raise IncompatibleError("dp-language: clipping = 'ghost' cannot add up these uses of one parameter")
        return (one.right * other.right).flatten(1).sum(dim=1)
    if one is other and one.kind == "outer" and _is_cheaper_whole(one):
        return torch.einsum("nlr,nlc->nrc", one.left, one.right).square().sum(dim=(1, 2))
    return (_left_products(one, other) * (one.right @ other.right.transpose(1, 2))).sum(dim=(1, 2))


def _is_cheaper_whole(use: Use) -> bool:
    """Long rows of a narrow layer: the gradients take less work than all pairs of places (Bu et al. 2022, arXiv
    2205.10683, section 4)."""
    return 2 * use.left.shape[1] ** 2 > use.left.shape[2] * use.right.shape[2]


def _left_products(one: Use, other: Use) -> Tensor:
    """Inner products of the left factors at all pairs of places, (records, places, places)."""
    if one.kind == other.kind == "outer":
        return one.left @ other.left.transpose(1, 2)
    if one.kind == other.kind == "rows":
        return (one.left[:, :, None] == other.left[:, None, :]).to(one.right)
    if one.kind == "outer":
        return _left_products(other, one).transpose(1, 2)
    chosen = one.left[:, None, :].expand(-1, other.left.shape[1], -1)
    return other.left.gather(2, chosen).transpose(1, 2)


def weighted_sum(parameter: Tensor, uses: list[Use], weights: Tensor) -> Tensor:
    """The sum of the records' gradients of `parameter`, each times its weight (records,)."""
    out = torch.zeros_like(parameter)
    for use in uses:
        right = use.right * weights.view(-1, *[1] * (use.right.dim() - 1))
        if use.kind == "whole":
            out += right.sum(dim=0)
        elif use.kind == "rows":
            out.index_add_(0, use.left.flatten(), right.flatten(0, 1))
        else:
            out += use.left.flatten(0, 1).T @ right.flatten(0, 1)
    return out


@dataclass(slots=True)
class GhostStep:
    """A DP-SGD step as `PrivateStep` takes it, equal to rounding, noise included; the divisor is `batch_size`.

    Layers report their inputs and the gradients of their outputs; the parameters themselves are outside the graph, so
    no gradient of theirs is computed but the clipped sum (Bu et al. 2023, arXiv 2210.00038). Raises
    `IncompatibleError` for trained parameters in layers without a rule.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    places: int
    noise: torch.Generator | None
    _uses: dict[Tensor, list[Use]] = field(default_factory=dict)
    _trained: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._trained = [p for p in self.module.parameters() if p.requires_grad]
        known: set[Tensor] = set()
        for layer in self.module.modules():
            own = {p for p in layer.parameters(recurse=False) if p.requires_grad}
            if own and type(layer).__name__ in RULES:
                known |= own
        for name, p in self.module.named_parameters():
            if p.requires_grad and p not in known:
                raise IncompatibleError(f"dp-language: clipping = 'ghost' has no rule for {name}; use 'hooks'")

    def __call__(self, examples: Examples) -> None:
        """One step; on an empty batch it is noise alone."""
        protection = self.recipe.protection
        assert protection is not None
        sums = [torch.zeros_like(p) for p in self._trained]
        with self._listening():
            for part in examples.split(CHUNK):
                self._uses.clear()
                torch.autograd.backward(example_losses(self.module(part.inputs), part.wanted, self.places).sum())
                squares = torch.stack([squared_norms(self._uses[p]) for p in self._trained]).sum(dim=0)
                weights = (protection.max_grad_norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)
                for total, p in zip(sums, self._trained, strict=True):
                    total += weighted_sum(p, self._uses[p], weights)
            self._uses.clear()
        deviation = protection.noise_multiplier * protection.max_grad_norm
        for total, p in zip(sums, self._trained, strict=True):
            draw = torch.zeros_like(p)
            if deviation > 0:
                draw = torch.normal(0.0, deviation, p.shape, generator=self.noise, device=p.device, dtype=p.dtype)
            p.grad = (total + draw) / self.recipe.batch_size
        self.optimizer.step()

    def gradients(self) -> list[Tensor]:
        """What the last step gave the optimizer: the noised mean over the public batch size."""
        return [p.grad for p in self._trained if p.grad is not None]

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        trained = set(self._trained)
        handles = [
            layer.register_forward_hook(partial(self._heard, trained & set(layer.parameters(recurse=False))))
            for layer in self.module.modules()
            if type(layer).__name__ in RULES and trained & set(layer.parameters(recurse=False))
        ]
        for p in self._trained:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for p in self._trained:
                p.requires_grad_(True)

    def _heard(self, own: set[Tensor], layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # Parameters are frozen meanwhile, so the first layer's output would not ask for a gradient.
        if not output.requires_grad:
            output.requires_grad_()
        given = inputs[0].detach()

        def keep(gradient: Tensor) -> None:
            for parameter, use in RULES[type(layer).__name__](layer, given, gradient.detach()):
                if parameter in own:
                    self._uses.setdefault(parameter, []).append(use)

        output.register_hook(keep)  # type: ignore[no-untyped-call]


def _linear(layer: Any, given: Tensor, gradient: Tensor) -> Iterator[tuple[Tensor, Use]]:
    yield layer.weight, Use("outer", gradient, given)
    if layer.bias is not None:
        yield layer.bias, Use("whole", gradient, gradient.sum(dim=1))


def _transposed_linear(layer: Any, given: Tensor, gradient: Tensor) -> Iterator[tuple[Tensor, Use]]:
    yield layer.weight, Use("outer", given, gradient)
    yield layer.bias, Use("whole", gradient, gradient.sum(dim=1))


def _embedding(layer: Any, given: Tensor, gradient: Tensor) -> Iterator[tuple[Tensor, Use]]:
    if layer.padding_idx is not None:
        gradient = gradient.masked_fill((given == layer.padding_idx)[..., None], 0.0)
    yield layer.weight, Use("rows", given, gradient)


def _layer_norm(layer: Any, given: Tensor, gradient: Tensor) -> Iterator[tuple[Tensor, Use]]:
    normal = nn.functional.layer_norm(given, layer.normalized_shape, eps=layer.eps)
    yield layer.weight, Use("whole", gradient, (gradient * normal).sum(dim=1))
    if layer.bias is not None:
        yield layer.bias, Use("whole", gradient, gradient.sum(dim=1))


def _root_mean_square(layer: Any, given: Tensor, gradient: Tensor) -> Iterator[tuple[Tensor, Use]]:
    size = given.pow(2).mean(dim=-1, keepdim=True) + layer.variance_epsilon
    yield layer.weight, Use("whole", gradient, (gradient * given * size.rsqrt()).sum(dim=1))


RULES = {
    "Linear": _linear,
    "Conv1D": _transposed_linear,
    "Embedding": _embedding,
    "LayerNorm": _layer_norm,
    "LlamaRMSNorm": _root_mean_square,
}
"""How each layer type uses its parameters, by class name: transformers need not be imported to tell them apart."""
