"""Hand-batched layers: sequential modules of linear, convolution, pooling and elementwise layers, all models at once.

Images are held channels-last, (models, width, height, width, channels), so that a convolution is one copy into patches
and one batched matrix product. One forward and one backward pass collect, for each layer with parameters, its input a
and the derivative g of each example's loss by its output. Every gradient follows from these two: plain sums are
a^T g, and the norm of one example's gradient of a linear layer is |a| |g| (Goodfellow 2015, arXiv 1510.01799), so
DP-SGD needs no per-sample gradients and no second pass. For a convolution the norm is computed from the example's
gradient itself or from the products a a^T and g g^T, whichever is smaller (Bu, Mao, Xu 2022, arXiv 2205.10683).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from .activations import activations
from .engine import StackedBatch, add_scaled, clip_factor, loss_gradient, stack_parameters
from .patches import cut_patches
from .plan import Parametric, plan_of, pools

if TYPE_CHECKING:
    from torch import Tensor, nn

PREPARED_BYTES = 64 << 20
"""Largest patch matrix kept for the whole data set when the first layer is a convolution."""


@dataclass(slots=True)
class _Used:
    """A layer's part in one pass: its input a and output (or, later, output gradient) g, both (models, width, ...)."""

    layer: Parametric
    a: Tensor
    g: Tensor


def layer_engine(modules: Sequence[nn.Module], features: Tensor) -> LayerEngine | None:
    """An engine over these models of one architecture, or None where some layer is of another kind or takes its input
    in a form that is not batched here."""
    plan = plan_of(modules[0], image=features.dim() == 4) if features.is_floating_point() else None
    if plan is None:
        return None
    return LayerEngine(plan, stack_parameters(modules), features, activations(modules[0], features[:1]))


class LayerEngine:
    """See the module's text."""

    def __init__(
        self, plan: list[Parametric | nn.Module], parameters: list[Tensor], features: Tensor, held: int
    ) -> None:
        self._plan = plan
        self._held = held
        self.parameters = parameters
        self._prepared = False
        self._data = self._prepare(features)

    def logits(self, positions: Tensor) -> Tensor:
        """As in `Engine`."""
        import torch

        with torch.inference_mode():
            return self._forward(positions, None)[0]

    def accumulate(self, batch: StackedBatch, into: list[Tensor], *, beta: float, scale: float) -> None:
        """As in `Engine`."""
        for used in self._backward(batch, batch.weights):
            layer, a, g = used.layer, used.a.flatten(1, -2), used.g.flatten(1, -2)
            self._add(layer, g.mT, a, into, beta, scale)
            if layer.bias is not None:
                add_scaled(into[layer.bias], g.sum(1), beta, scale)

    def accumulate_clipped(
        self, batch: StackedBatch, into: list[Tensor], *, max_norm: float, beta: float, scale: float
    ) -> None:
        """As in `Engine`."""
        used = self._backward(batch, None)
        gradients = [_per_example(u) for u in used]
        factor = clip_factor(sum(self._squared_norms(u, p) for u, p in zip(used, gradients, strict=True)), max_norm)  # type: ignore[arg-type]
        if batch.weights is not None:
            factor *= batch.weights
        row = factor[:, None]
        for u, per_example in zip(used, gradients, strict=True):
            self._add_clipped(u, per_example, row, into, beta, scale)

    def values(self, width: int) -> int:
        """As in `Engine`."""
        return width * self._held

    def _prepare(self, features: Tensor) -> Tensor:
        """Features in the form that batches are gathered from. Patches of a first convolution are the same for all
        models and steps: they are cut once."""
        from torch import nn

        first = self._plan[0]
        if isinstance(first, nn.Flatten):
            return features.flatten(1)
        if features.dim() != 4:
            return features
        features = features.permute(0, 2, 3, 1).contiguous()
        if not (isinstance(first, Parametric) and first.kernel):
            return features
        patches = cut_patches(features[None], first)
        if patches.numel() * patches.element_size() > PREPARED_BYTES:
            return features
        self._prepared = True
        return patches[0]

    def _backward(self, batch: StackedBatch, weights: Tensor | None) -> list[_Used]:
        """Inputs and output gradients of all layers with parameters, for the sum of `weights` times the losses."""
        import torch

        with torch.enable_grad():
            logits, used = self._forward(batch.positions, batch)
        gradient = loss_gradient(logits.detach(), batch.labels, weights)
        outputs = [u.g for u in used[:-1]]  # The last layer's output is the logits.
        inner = torch.autograd.grad(logits, outputs, gradient) if outputs else ()
        for u, g in zip(used, (*inner, gradient), strict=True):
            u.a, u.g = u.a.detach(), g
        return used

    def _forward(self, positions: Tensor, batch: StackedBatch | None) -> tuple[Tensor, list[_Used]]:
        """Logits and what each layer with parameters saw. With a batch: training mode, output gradients recorded."""
        used: list[_Used] = []
        gathered = self._data.index_select(0, positions.reshape(-1))
        x = gathered.view(*positions.shape, *gathered.shape[1:])
        for layer in self._plan:
            if not isinstance(layer, Parametric):
                x = _apply(layer, x, batch)
                continue
            a = x
            if layer.kernel and (used or not self._prepared):
                a = cut_patches(x, layer)
            x = self._product(layer, a)
            if batch is not None and not used:
                # Parameters carry no gradient, so the graph begins at the first output: nothing is wasted below it.
                x.requires_grad_()
            used.append(_Used(layer, a, x))
        return x, used

    def _product(self, layer: Parametric, a: Tensor) -> Tensor:
        import torch

        flat, weight = a.flatten(1, -2), self._matrix(layer)
        if layer.bias is None:
            out = torch.bmm(flat, weight.mT)
        else:
            out = torch.baddbmm(self.parameters[layer.bias][:, None], flat, weight.mT)
        return out.view(*a.shape[:-1], -1)

    def _matrix(self, layer: Parametric) -> Tensor:
        """The weight as (models, outputs, inputs); a convolution's inputs in the order of patches."""
        weight = self.parameters[layer.weight]
        return weight if layer.kernel is None else weight.permute(0, 1, 3, 4, 2).flatten(2)

    def _add(
        self, layer: Parametric, left: Tensor, right: Tensor, into: list[Tensor], beta: float, scale: float
    ) -> None:
        """into = beta into + scale left right, for the layer's weight."""
        target = into[layer.weight]
        if layer.kernel is None:
            target.baddbmm_(left, right, beta=beta, alpha=scale)
        else:
            add_scaled(target, self._as_weight(layer, left.bmm(right)), beta, scale)

    def _as_weight(self, layer: Parametric, matrix: Tensor) -> Tensor:
        """The inverse of `_matrix` for a convolution."""
        models, outputs, channels, *kernel = self.parameters[layer.weight].shape
        return matrix.view(models, outputs, *kernel, channels).permute(0, 1, 4, 2, 3)

    def _squared_norms(self, used: _Used, per_example: Tensor | None) -> Tensor:
        """Squared norm (models, width) of each example's gradient of this layer."""
        a, g = used.a, used.g
        if used.layer.kernel is None:
            inputs = a.square().sum(-1)
            return g.square().sum(-1) * (inputs if used.layer.bias is None else inputs + 1)
        # ||g^T a||^2 is the sum of the elementwise product of a a^T and g g^T, over pairs of positions.
        parts = ((a @ a.mT) * (g @ g.mT)) if per_example is None else per_example.square()
        norms = parts.sum((-1, -2))
        return norms if used.layer.bias is None else norms + g.sum(-2).square().sum(-1)

    def _add_clipped(
        self, used: _Used, per_example: Tensor | None, row: Tensor, into: list[Tensor], beta: float, scale: float
    ) -> None:
        """into = beta into + scale times the sum of examples' gradients times `row` (models, 1, width)."""
        layer, g = used.layer, used.g
        if per_example is not None:
            models, _, outputs, inputs = per_example.shape
            total = row.bmm(per_example.flatten(2)).view(models, outputs, inputs)
            add_scaled(into[layer.weight], self._as_weight(layer, total), beta, scale)
            cells = g.sum(-2)
        else:
            scaled = g * (row.mT if layer.kernel is None else row.mT[..., None])
            self._add(layer, scaled.flatten(1, -2).mT, used.a.flatten(1, -2), into, beta, scale)
            cells = g if layer.kernel is None else g.sum(-2)
        if layer.bias is not None:
            add_scaled(into[layer.bias], row.bmm(cells)[:, 0], beta, scale)


def _per_example(used: _Used) -> Tensor | None:
    """Each example's gradient (models, width, outputs, inputs) of a convolution's weight where that is smaller than the
    products of its positions, else None; never for a linear layer."""
    import torch

    used.a = used.a if used.layer.kernel is None else used.a.flatten(2, -2)
    used.g = used.g if used.layer.kernel is None else used.g.flatten(2, -2)
    if used.layer.kernel is None or used.a.shape[-1] * used.g.shape[-1] > 2 * used.a.shape[-2] ** 2:
        return None
    a, g = used.a.flatten(0, 1), used.g.flatten(0, 1)
    return torch.bmm(g.mT, a).view(*used.a.shape[:2], g.shape[-1], a.shape[-1])


def _apply(layer: nn.Module, x: Tensor, batch: StackedBatch | None) -> Tensor:
    """A layer without parameters, on (models, width, features) or channels-last images."""
    from torch import nn

    if isinstance(layer, nn.Dropout):
        return x if batch is None else _dropout(layer.p, x, batch)
    if isinstance(layer, nn.Flatten):
        return x.permute(0, 1, 4, 2, 3).flatten(2) if x.dim() == 5 else x.flatten(2)
    if isinstance(layer, pools()):
        image = cast("Tensor", layer(x.flatten(0, 1).permute(0, 3, 1, 2)))
        return image.permute(0, 2, 3, 1).reshape(*x.shape[:2], *image.shape[2:], image.shape[1])
    return cast("Tensor", layer(x))


def _dropout(p: float, x: Tensor, batch: StackedBatch) -> Tensor:
    """Dropout with a stream per model. On the CPU these are the draws that a single model's dropout would make."""
    import torch

    image = x.dim() == 5
    kept = torch.zeros_like(x.permute(0, 1, 4, 2, 3) if image else x, memory_format=torch.contiguous_format)
    for model, (size, generator) in enumerate(zip(batch.sizes, batch.dropout, strict=True)):
        kept[model, :size].bernoulli_(1 - p, generator=generator)
    return x * (kept.permute(0, 1, 3, 4, 2) if image else kept).div_(1 - p)
