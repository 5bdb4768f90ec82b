"""What a Flower job trains, as the server and the nodes need to know it: weights, or masks on a frozen network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...audit.seeds import Seeds
from ...audit.types import Rows
from ..federated.layout import read_buffers, read_parameters
from ..federated.protection import Protection
from ..federated.recipe import FederatedRecipe
from ..federated.rounds import Federation, Observer, Schedule
from ..federated.server import ServerState
from ..federated.training import prepare_training, recorder_of
from ..federated.views import ViewRecorder
from ..supermask.federation import MaskFederation, recorder_of_masks
from ..supermask.server import BitFederation


class Plan(Protocol):
    """Clients, recorder and rounds of one kind of training."""

    @property
    def protection(self) -> Protection | None:
        """What clients and server clip and add."""

    def prepare(self, rows: Rows, *, seeds: Seeds) -> tuple[Any, Schedule]:
        """All clients with their rows around a fresh model on the CPU, and the public numbers."""

    def recorder(self, schedule: Schedule, clients: Any, folder: Path | None, *, seeds: Seeds) -> ViewRecorder:
        """A recorder of the trainer's view."""

    def start(
        self,
        clients: Any,
        schedule: Schedule,
        observers: Sequence[Observer],
        *,
        seeds: Seeds,
        kind: type[Federation],
        bits: type[BitFederation],
    ) -> Federation:
        """The loop before its first round; `kind` and `bits` are its mechanisms over a grid."""


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """Trainers `federated` and `dp-federated`."""

    recipe: FederatedRecipe

    @property
    def protection(self) -> Protection | None:
        """As in `Plan`."""
        return self.recipe.protection

    def prepare(self, rows: Rows, *, seeds: Seeds) -> tuple[Any, Schedule]:
        """As in `Plan`."""
        return prepare_training(self.recipe, rows, np.ones(len(rows), np.bool_), seeds=seeds, device="cpu")

    def recorder(self, schedule: Schedule, clients: Any, folder: Path | None, *, seeds: Seeds) -> ViewRecorder:
        """As in `Plan`; rounds go to `folder` as they come."""
        return recorder_of(self.recipe, schedule, clients, seeds, folder)

    def start(
        self,
        clients: Any,
        schedule: Schedule,
        observers: Sequence[Observer],
        *,
        seeds: Seeds,
        kind: type[Federation],
        bits: type[BitFederation],
    ) -> Federation:
        """As in `Plan`."""
        del bits
        state = ServerState.start(read_parameters(clients.module))
        return kind(clients, schedule, self.protection, seeds, state, read_buffers(clients.module), observers)


@dataclass(frozen=True, slots=True)
class MaskPlan:
    """Trainers `federated-supermask` and `dp-federated-supermask`: scores go out; scores, bits or flips come back."""

    federation: MaskFederation

    @property
    def protection(self) -> Protection | None:
        """As in `Plan`."""
        return self.federation.protection

    def prepare(self, rows: Rows, *, seeds: Seeds) -> tuple[Any, Schedule]:
        """As in `Plan`."""
        clients = self.federation.clients(rows, np.ones(len(rows), np.bool_), seeds=seeds, device="cpu")
        return clients, self.federation.schedule

    def recorder(self, schedule: Schedule, clients: Any, folder: Path | None, *, seeds: Seeds) -> ViewRecorder:
        """As in `Plan`; held in memory."""
        del schedule, folder
        return recorder_of_masks(self.federation, clients, seeds)

    def start(
        self,
        clients: Any,
        schedule: Schedule,
        observers: Sequence[Observer],
        *,
        seeds: Seeds,
        kind: type[Federation],
        bits: type[BitFederation],
    ) -> Federation:
        """As in `Plan`."""
        return self.federation.start(clients, schedule, observers, seeds=seeds, kind=kind, bits=bits)
