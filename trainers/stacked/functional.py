"""Any module without buffers or randomness, by `torch.func`: slower than hand-batched layers, but for every layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from .activations import activations
from .engine import StackedBatch, add_scaled, clip_factor, stack_parameters

if TYPE_CHECKING:
    from torch import Tensor, nn


def functional_engine(modules: Sequence[nn.Module], features: Tensor) -> FunctionalEngine | None:
    """An engine over these models, or None where the module cannot be batched: it has buffers or frozen parameters,
    holds one module under two names (`functional_call` of torch 2.13 does not put its weights back), draws random
    numbers, or decides by the values it sees."""
    import torch

    first = modules[0]
    if list(first.buffers()) or any(not p.requires_grad for p in first.parameters()):
        return None
    if len(list(first.named_modules(remove_duplicate=False))) > len(list(first.modules())):
        return None
    engine = FunctionalEngine(first, stack_parameters(modules[:1]), features)
    zero = torch.zeros(1, 2, dtype=torch.int64, device=features.device)
    probe = StackedBatch(zero, zero, None, [2], [])
    try:
        engine.accumulate(probe, [torch.zeros_like(p) for p in engine.parameters], beta=0.0, scale=1.0)
    except RuntimeError:  # What vmap raises for randomness, data-dependent control flow and operations it lacks.
        return None
    return FunctionalEngine(first, stack_parameters(modules), features)


class FunctionalEngine:
    """As `Engine`, by vmap over models; clipping by per-sample gradients, (models, width, ...) each."""

    def __init__(self, module: nn.Module, parameters: list[Tensor], features: Tensor) -> None:
        self._module = module
        self._data = features
        self._activations = activations(module, features[:1])
        self._names = [name for name, _ in module.named_parameters()]
        self.parameters = parameters

    def logits(self, positions: Tensor) -> Tensor:
        """As in `Engine`."""
        import torch

        self._module.eval()
        with torch.no_grad():
            return torch.func.vmap(self._call)(self._by_name(), self._data[positions])

    def accumulate(self, batch: StackedBatch, into: list[Tensor], *, beta: float, scale: float) -> None:
        """As in `Engine`."""
        weights = batch.weights
        if weights is None:
            weights = self.parameters[0].new_ones(batch.labels.shape)
        gradients = self._map(self._summed)(self._by_name(), self._data[batch.positions], batch.labels, weights)
        self._add(gradients, into, beta, scale)

    def accumulate_clipped(
        self, batch: StackedBatch, into: list[Tensor], *, max_norm: float, beta: float, scale: float
    ) -> None:
        """As in `Engine`."""
        import torch

        each = torch.func.vmap(torch.func.grad(self._one), in_dims=(None, 0, 0))
        gradients = self._map(each, differentiate=False)(self._by_name(), self._data[batch.positions], batch.labels)
        squared = torch.stack([g.flatten(2).square().sum(-1) for g in gradients.values()]).sum(0)
        factor = clip_factor(squared, max_norm)
        if batch.weights is not None:
            factor = factor * batch.weights
        total = {k: factor[:, None].bmm(g.flatten(2)).view(len(g), *g.shape[2:]) for k, g in gradients.items()}
        self._add(total, into, beta, scale)

    def values(self, width: int) -> int:
        """As in `Engine`; each example's gradient twice, which clipping holds."""
        return width * (self._activations + 2 * sum(p[0].numel() for p in self.parameters))

    def _map(self, function: Callable[..., Any], *, differentiate: bool = True) -> Callable[..., dict[str, Tensor]]:
        import torch

        self._module.train()
        inner = torch.func.grad(function) if differentiate else function
        return cast("Callable[..., dict[str, Tensor]]", torch.func.vmap(inner))

    def _by_name(self) -> dict[str, Tensor]:
        return dict(zip(self._names, self.parameters, strict=True))

    def _call(self, parameters: dict[str, Tensor], features: Tensor) -> Tensor:
        import torch

        return cast("Tensor", torch.func.functional_call(self._module, parameters, (features,)))

    def _summed(self, parameters: dict[str, Tensor], features: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        from torch.nn.functional import cross_entropy

        return (cross_entropy(self._call(parameters, features), labels, reduction="none") * weights).sum()

    def _one(self, parameters: dict[str, Tensor], features: Tensor, label: Tensor) -> Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(self._call(parameters, features[None]), label[None])

    def _add(self, gradients: dict[str, Tensor], into: list[Tensor], beta: float, scale: float) -> None:
        for target, name in zip(into, self._names, strict=True):
            add_scaled(target, gradients[name], beta, scale)
