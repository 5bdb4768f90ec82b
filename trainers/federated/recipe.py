"""What the federated loop needs to know of a trainer: one neutral value, with and without protection."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Claim, Rows
from ..models import ModelSpec
from ..recipe import OptimizerSpec, Recipe
from ..transformer.spec import assumed_public
from .claims import view_claim
from .local import LocalPlan
from .partition import PartitionSpec
from .protection import Protection, View, check_view
from .rounds import Schedule, Weighting

BufferRule = Literal["average", "freeze", "refuse"]


@dataclass(frozen=True, slots=True)
class FederatedRecipe:
    """Everything that shapes a federated model but its rows and seeds. `cohort` is the expected number of clients a
    round; `nominal_clients`, public, the number of clients it is drawn from: their ratio is the sampling rate."""

    model: ModelSpec
    partition: PartitionSpec
    local: LocalPlan
    rounds: int
    cohort: float
    nominal_clients: int | None
    dropout: float = 0.0
    server_learning_rate: float = 1.0
    server_momentum: float = 0.0
    weighting: Weighting = "uniform"
    buffers: BufferRule = "average"
    masked: bool = False
    view: View = "final-model"
    dtype: Literal["float32", "float64"] = "float32"
    protection: Protection | None = None

    def __post_init__(self) -> None:
        check_view(self.view)
        if not self.cohort > 0:
            raise ConfigError(f"cohort must be > 0, got {self.cohort}")
        if self.nominal_clients is not None and self.nominal_clients < 1:
            raise ConfigError(f"nominal_clients must be at least 1, got {self.nominal_clients}")
        if self.dtype not in ("float32", "float64"):
            raise ConfigError(f"dtype must be 'float32' or 'float64', got {self.dtype!r}")
        self.schedule(self.nominal_clients or max(1, int(np.ceil(self.cohort))))

    def clients(self, present: int) -> int:
        """The number of clients that public numbers go by; `present` where none is fixed."""
        return present if self.nominal_clients is None else self.nominal_clients

    def schedule(self, present: int, canaries: int = 0) -> Schedule:
        """The schedule for `present` clients. Canaries join at the same rate and count in the expected cohort."""
        nominal = self.clients(present)
        rate = self.cohort / nominal
        return Schedule(
            rounds=self.rounds,
            sample_rate=rate,
            expected_cohort=rate * (nominal + canaries),
            dropout=self.dropout,
            server_learning_rate=self.server_learning_rate,
            server_momentum=self.server_momentum,
            weighting="uniform" if canaries else self.weighting,
            masked=self.masked and not canaries,
        )

    def with_canaries(self, present: int, canaries: int, view: View) -> FederatedRecipe:
        """The recipe of a canary run seen by `view`, with the same rate, rounds and noise against that observer.

        The sum of more clients holds more shares of client noise, so each adds less; against the server that sees
        every update it is the share that must stay.
        """
        check_view(view)
        protection = self.protection
        if protection is not None and view != "updates":
            nominal = self.clients(present)
            protection = protection.for_cohorts((nominal + canaries) / nominal)
        return replace(self, view=view, protection=protection)

    def claim(self, view: View, delta: float) -> Claim | None:
        """The claim against `view`, from public numbers; None without protection from it."""
        if self.protection is None:
            return None
        if self.nominal_clients is None:
            raise ConfigError(
                "dp-federated needs nominal_clients, a public number of clients from which sampling rate and divisor "
                "follow: the number that is really there is private"
            )
        schedule = self.schedule(self.nominal_clients)
        claim = view_claim(self.protection, view, sample_rate=schedule.sample_rate, rounds=schedule.rounds, delta=delta)
        if claim is None:
            return None
        return replace(claim, assumes=(*claim.assumes, *assumed_public(self.model.transformer)))

    def plain(self) -> Recipe:
        """Architecture and number type, as stored models are read back with."""
        return Recipe(self.model, OptimizerSpec(), 1, 1, "shuffle", dtype=self.dtype)


def identity(recipe: FederatedRecipe, data: Rows, rows: BoolArray, seeds: Seeds) -> str:
    """A digest of everything that shapes the model: a checkpoint with another one belongs to another training."""
    digest = hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode())
    digest.update(data.fingerprint().encode())
    digest.update("\x1f".join(data.groups or ()).encode())
    digest.update(np.packbits(rows).tobytes())
    digest.update(repr((len(rows), seeds)).encode())
    return digest.hexdigest()
