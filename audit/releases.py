"""What a training step shows of the records in it: the interface between trainers and reconstruction attacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .seeds import Seeds
from .types import Claim, Rows


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """Public facts of one release: `clip` (L2 norm of one unit's contribution, None without clipping), the standard
    deviation `noise` on every coordinate of the sum (0 without), the `claim` of one release at full participation, and
    in words what is released (`single gradient`, `client update after 5 steps`, `mask scores`)."""

    clip: float | None
    noise: float
    claim: Claim | None
    released: str


@runtime_checkable
class ReleasesUpdates(Protocol):
    """A trainer whose single training step can be observed."""

    def release_facts(self, delta: float) -> ReleaseFacts:
        """What one release is, its claim stated at `delta`."""

    def fresh_model(self, data: Rows, *, seeds: Seeds, device: str) -> Any:
        """The model before training: a torch module in training mode."""

    def updates(self, module: Any, features: Any, labels: Any) -> Any:
        """Each unit's own contribution to the released sum, after clipping, before noise: tensor (units, parameters),
        on the device of `features`. `features` (units, ...), `labels` (units,): one record a unit."""
