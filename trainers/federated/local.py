"""A client's part of a round: plain SGD from the global model on the client's own rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.seeds import Seeds
from ..sampling import Positions
from .layout import Buffers, Flat, read_buffers, read_parameters, write_buffers, write_parameters

if TYPE_CHECKING:
    from torch import Tensor, nn

Algorithm = Literal["fedavg", "fedsgd"]


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """What every client does: `epochs` passes over its rows in random order in batches of `batch_size`, plain SGD on
    the mean loss of each batch (FedAvg, McMahan et al. 2017, arXiv 1602.05629); `fedsgd` is one step on all rows."""

    algorithm: Algorithm = "fedavg"
    epochs: int = 1
    batch_size: int = 16
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        if self.algorithm not in ("fedavg", "fedsgd"):
            raise ConfigError(f"algorithm must be 'fedavg' or 'fedsgd', got {self.algorithm!r}")
        for key in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, key) > 0:
                raise ConfigError(f"local {key} must be > 0, got {getattr(self, key)}")

    def steps(self, rows: int) -> int:
        """Local steps of a client with `rows` rows."""
        if not rows:
            return 0
        return 1 if self.algorithm == "fedsgd" else self.epochs * -(-rows // self.batch_size)

    def batches(self, rows: int, *, seeds: Seeds) -> list[Positions]:
        """Positions in [0, rows) of each local step; none for a client without rows. `seeds`: `client_seeds`."""
        if not rows:
            return []
        if self.algorithm == "fedsgd":
            return [np.arange(rows)]
        generator = seeds.at("batches").generator()
        edges = np.arange(self.batch_size, rows, self.batch_size)
        return [part for _ in range(self.epochs) for part in np.split(generator.permutation(rows), edges)]


@dataclass(frozen=True, slots=True)
class ClientUpdate:
    """What a client sends before any clipping or noise: `delta` = its weights minus the global ones (dimension,),
    its number of examples, and its buffers if the model has any."""

    delta: Flat
    examples: int
    buffers: Buffers = field(default_factory=dict)


def local_update(
    module: nn.Module,
    weights: Flat,
    features: Tensor,
    labels: Tensor,
    plan: LocalPlan,
    *,
    seeds: Seeds,
    buffers: Mapping[str, NDArray[Any]] | None = None,
    freeze_buffers: bool = False,
) -> ClientUpdate:
    """Train from the global `weights` (dimension,) and `buffers` on one client's rows; `seeds` are `client_seeds`.

    `module` is scratch space of the right architecture and is left with the client's weights. A client without rows
    sends a zero update and 0 examples. Deterministic given `seeds`, dropout layers included. With `freeze_buffers`
    layers that own buffers run in evaluation mode, so that batch normalisation uses what the server sent.
    """
    import torch
    from torch.nn.functional import cross_entropy

    write_parameters(module, weights)
    if buffers:
        write_buffers(module, buffers)
    module.train()
    if freeze_buffers:
        for layer in module.modules():
            if list(layer.buffers(recurse=False)):
                layer.eval()
    trainable = [p for p in module.parameters() if p.requires_grad]
    with seeds.at("dropout").torch_scope():
        for batch in plan.batches(len(labels), seeds=seeds):
            rows = torch.from_numpy(batch).to(labels.device)
            loss = cross_entropy(_logits(module, features[rows]), labels[rows])
            gradients = torch.autograd.grad(loss, trainable)
            with torch.no_grad():
                for p, g in zip(trainable, gradients, strict=True):
                    p.sub_(g, alpha=plan.learning_rate)
    return ClientUpdate(read_parameters(module) - weights, len(labels), read_buffers(module))


def _logits(module: nn.Module, features: Tensor) -> Tensor:
    """The module's output; batch normalisation cannot train on one row, and says so in our words."""
    try:
        return cast("Tensor", module(features))
    except ValueError as error:
        if len(features) == 1 and "more than 1 value per channel" in str(error):
            raise IncompatibleError(
                "a client's batch is one row, which batch normalisation cannot train on: change batch_size, use "
                "GroupNorm, or set buffers = 'freeze'"
            ) from None
        raise
