"""What a Flower run of our federated trainers is about: one value that travels to every process as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from typing import Any

import numpy as np

from ...audit.errors import ConfigError
from ...audit.registry import TRAINERS, nearest
from ...audit.seeds import Seeds
from ..data import DataSpec, encode, load_table
from ..federated.recipe import FederatedRecipe
from ..federated.rounds import Schedule
from .plans import MaskPlan, Plan, WeightPlan


@dataclass(frozen=True, slots=True)
class FlowerJob:
    """`trainer` ("federated", "dp-federated", "federated-supermask" or "dp-federated-supermask") with its `settings`,
    on `data` (keys of `[data]`), from `seed`.

    `nodes` SuperNodes share the clients: client i lives on the node whose partition id is i mod `nodes`. A node that
    does not answer within `timeout` seconds counts as dropped out in that round. The transcript of the trainer's view
    goes to the folder `out`, with the final model.
    """

    trainer: str = "federated"
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=lambda: {"name": "digits"})
    seed: int = 0
    nodes: int = 2
    timeout: float = 60.0
    out: str = ""

    def __post_init__(self) -> None:
        if self.nodes < 1 or not self.timeout > 0:
            raise ConfigError(f"flower: needs nodes >= 1 and timeout > 0, got {self.nodes} and {self.timeout}")

    def to_json(self) -> str:
        """For a Flower run configuration, which holds strings and numbers only."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> FlowerJob:
        """What `to_json` wrote; unknown keys are refused with the nearest valid one."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"flower: the run configuration's 'job' is no JSON: {error}") from None
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                raise ConfigError(f"flower: unknown key {key!r} in 'job'{nearest(key, known)}")
        return cls(**values)

    def plan(self) -> Plan:
        """What is trained, and how its rounds run."""
        trainer = self._trainer()
        return MaskPlan(trainer.federation()) if hasattr(trainer, "federation") else WeightPlan(self.recipe())

    def recipe(self) -> FederatedRecipe:
        """A trainer of weights as the federated loop sees it."""
        recipe: FederatedRecipe = self._trainer().recipe()
        if recipe.masked:
            raise ConfigError(
                "flower: secure_sum 'masked' is a simulation inside our own loop; use Flower's SecAgg+ for the real "
                "thing, or secure_sum 'plain'"
            )
        return recipe

    def _trainer(self) -> Any:
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in self.settings.items()}
        trainer = TRAINERS.load(self.trainer)(**settings)
        if not hasattr(trainer, "federation") and not hasattr(trainer, "recipe"):
            raise ConfigError(f"flower: trainer {self.trainer!r} is not federated: use 'federated' or a mask trainer")
        return trainer

    @property
    def seeds(self) -> Seeds:
        """The seeds of the run, as of a trainer that is given `Seeds(seed)`."""
        return Seeds(self.seed)

    def clients_of(self, names: tuple[str, ...], partition: int) -> tuple[str, ...]:
        """Which clients live on a node."""
        return names[partition :: self.nodes]


@lru_cache(maxsize=4)
def local_trainer(job: str) -> tuple[Any, Schedule]:
    """Model, data and clients of a job, built once in a process; the same in all of them."""
    parsed = FlowerJob.from_json(job)
    spec = DataSpec(**{"seed": parsed.seed, **parsed.data})
    table = load_table(spec)
    rows = encode(table, np.ones(len(table), np.bool_), spec).rows
    return parsed.plan().prepare(rows, seeds=parsed.seeds)
