"""Sizes of the loss gradient at every record, with respect to each layer's weights and to the record itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ....audit.errors import IncompatibleError
from ....audit.seeds import Seeds
from ....audit.types import Access, Rows, Trained

if TYPE_CHECKING:
    from torch import Tensor, nn

    Norms = Callable[[Tensor, Tensor], Tensor]

NUMBERS = 1 << 24
"""Gradient numbers held at a time (64 MB in float32)."""


@dataclass(frozen=True, slots=True)
class GradientNorms:
    """Euclidean norms of the gradient of the cross-entropy of a record's own label, in nats.

    Column 0 is with respect to the features (0 for tokens, which have no gradient); the others with respect to one
    weight tensor each, in the module's order, so that the norm over all weights is the root of their summed squares
    (Nasr, Shokri, Houmansadr 2019, arXiv 1812.00910). Needs the weights of a torch module.
    """

    name: ClassVar[str] = "gradient-norms"
    version: ClassVar[str] = "1"
    access: ClassVar[Access] = Access.WEIGHTS

    def ask(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:  # noqa: ARG002
        """float32 (records, 1 + weight tensors). `IncompatibleError` for what is no torch module."""
        import torch

        module = trained.model
        if not isinstance(module, torch.nn.Module):
            raise IncompatibleError(
                f"query {self.name!r} needs a torch module, this model is a {type(module).__name__}: its gradients "
                "cannot be seen"
            )
        weights = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
        if not weights:
            raise IncompatibleError(f"query {self.name!r}: the module has no trainable weights")
        was_training = {part: part.training for part in module.modules()}
        module.eval()
        try:
            return _norms(module, weights, rows, device)
        finally:
            for part, mode in was_training.items():
                part.training = mode


def _norms(module: nn.Module, weights: dict[str, Tensor], rows: Rows, device: str) -> NDArray[np.float32]:
    import torch

    total = sum(w.numel() for w in weights.values()) + int(np.prod(rows.features.shape[1:]))
    chunk = max(1, NUMBERS // total)
    dtype = next(iter(weights.values())).dtype
    tokens = np.issubdtype(rows.features.dtype, np.integer)
    features = torch.as_tensor(np.array(rows.features), dtype=torch.int64 if tokens else dtype)
    labels = torch.as_tensor(np.array(rows.labels), dtype=torch.int64)
    norms = _batched(module, weights, tokens=bool(tokens))
    parts = []
    for start in range(0, len(rows), chunk):
        part = features[start : start + chunk].to(device), labels[start : start + chunk].to(device)
        try:
            parts.append(norms(*part).cpu())
        except RuntimeError:
            if start:
                raise
            # Some modules (recurrent, or with data-dependent control flow) cannot be vectorised over records.
            norms = _one_by_one(module, weights, tokens=bool(tokens))
            parts.append(norms(*part).cpu())
    if not parts:
        return np.zeros((0, 1 + len(weights)), dtype=np.float32)
    return torch.cat(parts).float().numpy()


def _loss(module: nn.Module) -> Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]:
    """(weights, one record, its label) -> cross-entropy; buffers and fixed weights stay the module's own."""
    from torch.func import functional_call
    from torch.nn import functional

    def loss(weights: dict[str, Tensor], record: Tensor, label: Tensor) -> Tensor:
        answer: Any = functional_call(module, weights, (record[None],))
        return functional.cross_entropy(getattr(answer, "logits", answer).float(), label[None])

    return loss


def _batched(module: nn.Module, weights: dict[str, Tensor], *, tokens: bool) -> Norms:
    import torch
    from torch.func import grad, vmap

    gradient = vmap(grad(_loss(module), argnums=0 if tokens else (0, 1)), in_dims=(None, 0, 0))

    def norms(records: Tensor, labels: Tensor) -> Tensor:
        got = gradient(weights, records, labels)
        by_weight, by_record = (got, None) if tokens else got
        columns = [torch.zeros(len(labels), device=records.device) if by_record is None else _size(by_record)]
        return torch.stack([*columns, *(_size(by_weight[name]) for name in weights)], dim=1)

    return norms


def _one_by_one(module: nn.Module, weights: dict[str, Tensor], *, tokens: bool) -> Norms:
    import torch

    loss = _loss(module)
    leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}

    def norms(records: Tensor, labels: Tensor) -> Tensor:
        out = []
        for record, label in zip(records, labels, strict=True):
            entry = record.clone() if tokens else record.clone().requires_grad_()
            wanted = [*leaves.values(), *([] if tokens else [entry])]
            got = torch.autograd.grad(loss(leaves, entry, label), wanted, allow_unused=True)
            sizes = [torch.zeros((), device=records.device) if g is None else g.norm() for g in got]
            by_record = torch.zeros((), device=records.device) if tokens else sizes.pop()
            out.append(torch.stack([by_record, *sizes]))
        return torch.stack(out)

    return norms


def _size(gradients: Tensor) -> Tensor:
    """Euclidean norm of each (records, ...)."""
    size: Tensor = gradients.flatten(1).norm(dim=1)
    return size
