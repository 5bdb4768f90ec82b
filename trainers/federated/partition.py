"""Which client holds which record: by nature, evenly at random, or with skewed labels (Dirichlet)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Rows
from ..sampling import Positions

PartitionKind = Literal["natural", "iid", "dirichlet"]


@dataclass(frozen=True, slots=True)
class PartitionSpec:
    """`natural`: one client per value of `Rows.groups`. `iid`: `clients` clients, each record to any with equal chance.
    `dirichlet`: each client draws label proportions from Dirichlet(`concentration`) and a record goes to a client with
    probability proportional to the client's share of its label (after Hsu et al. 2019, arXiv 1909.06335).

    Where a record goes follows from `seed`, its own id and its label alone: records that come or go move no other.
    """

    kind: PartitionKind = "iid"
    clients: int | None = 20
    concentration: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("natural", "iid", "dirichlet"):
            raise ConfigError(f"partition must be 'natural', 'iid' or 'dirichlet', got {self.kind!r}")
        if self.kind != "natural" and (self.clients is None or self.clients < 1):
            raise ConfigError(f"partition {self.kind!r} needs clients >= 1, got {self.clients}")
        if not self.concentration > 0:
            raise ConfigError(f"concentration must be > 0, got {self.concentration}")


@dataclass(frozen=True, slots=True)
class Partition:
    """`clients` by name and the client of every record of the data, int64 (records,) positions in `clients`."""

    clients: tuple[str, ...]
    holder: NDArray[np.int64]

    def rows_of(self, inside: BoolArray) -> list[Positions]:
        """For each client the positions of its records that are `inside`, ascending; empty for a client without."""
        kept = np.flatnonzero(inside)
        order = kept[np.argsort(self.holder[kept], kind="stable")]
        edges = np.searchsorted(self.holder[order], np.arange(1, len(self.clients)))
        return [part.astype(np.int64) for part in np.split(order, edges)]


def partition_rows(data: Rows, spec: PartitionSpec) -> Partition:
    """Give every record of `data` to a client. Raises `ConfigError` for a natural partition of data without groups."""
    if spec.kind == "natural":
        if data.groups is None:
            raise ConfigError(
                f"partition 'natural' needs a group for every record and {data.name} has none: name a group column, or "
                "use partition 'iid' or 'dirichlet'"
            )
        names = tuple(sorted(set(data.groups)))
        number = {name: i for i, name in enumerate(names)}
        return Partition(names, np.array([number[g] for g in data.groups], np.int64))
    assert spec.clients is not None
    seeds = Seeds(spec.seed).at("partition")
    lots = np.array([seeds.at("record", record).entropy() for record in data.records], np.float64) / 2.0**128
    cumulated = np.cumsum(_shares(data.classes, spec, seeds), axis=0)
    # Row by row a search; clients are few enough for a comparison with all of them at once, a class at a time.
    holder = np.zeros(len(data), np.int64)
    for label in range(data.classes):
        rows = np.flatnonzero(data.labels == label)
        column = cumulated[:, label]
        holder[rows] = np.searchsorted(column, lots[rows] * column[-1], side="right")
    return Partition(tuple(f"client-{i}" for i in range(spec.clients)), np.minimum(holder, spec.clients - 1))


def _shares(classes: int, spec: PartitionSpec, seeds: Seeds) -> NDArray[np.float64]:
    """(clients, classes): how strongly each client draws records of each class."""
    assert spec.clients is not None
    if spec.kind == "iid":
        return np.ones((spec.clients, classes))
    alpha = np.full(classes, spec.concentration)
    drawn = [seeds.at("client", c).generator().dirichlet(alpha) for c in range(spec.clients)]
    # A tiny floor: with few clients and strong skew a class could otherwise be drawn by nobody.
    return np.maximum(np.stack(drawn), 1e-12)
