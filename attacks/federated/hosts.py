"""What the games on federated learning ask of a trainer, whoever wrote it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.games import Stage
from ...audit.seeds import Seeds
from ...audit.types import Rows


@runtime_checkable
class UpdateHost(Protocol):
    """A federated trainer that shows what one client would send."""

    def client_update(
        self, model: Any, rows: Rows, weights: NDArray[np.floating[Any]], *, seeds: Seeds, device: str
    ) -> NDArray[np.float64]:
        """The update (dimension,) that a client with `rows` sends from the global `weights` (dimension,), clipped and
        noised as the server sees it arrive. `model` is a module of the architecture, which is not changed."""


def update_host(stage: Stage, attack: str) -> UpdateHost:
    """The stage's trainer. Raises `IncompatibleError` for one that has no clients."""
    if not isinstance(stage.trainer, UpdateHost):
        name = getattr(stage.trainer, "name", type(stage.trainer).__name__)
        raise IncompatibleError(f"attack {attack!r} needs a federated trainer, but {name!r} has no clients")
    return stage.trainer


def flat_weights(module: Any) -> NDArray[np.floating[Any]]:
    """Trainable parameters of a torch module end to end, (dimension,)."""
    return np.concatenate([p.detach().cpu().numpy().ravel() for p in module.parameters() if p.requires_grad])


def slices(module: Any) -> dict[str, tuple[slice, tuple[int, ...]]]:
    """Where each trainable parameter lies in the flat vector, and its shape, by name."""
    out, start = {}, 0
    for name, p in module.named_parameters():
        if p.requires_grad:
            out[name] = (slice(start, start + p.numel()), tuple(p.shape))
            start += p.numel()
    return out
