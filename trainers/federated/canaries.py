"""Canary clients: they join rounds like any client, and send a known direction instead of an update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.canaries import CanarySet
from ...audit.errors import ConfigError
from ...audit.registry import nearest
from ...audit.seeds import Seeds
from ...audit.types import BoolArray
from .layout import Buffers, Flat
from .protection import Protection, View
from .rounds import Schedule
from .server import Floats

KINDS = ("client-random", "client-orthogonal", "client-crafted")
PORTION = 256
"""Canary updates held at a time."""
STRENGTH = 10.0
"""Norm of what a canary sends, over the clip: well above 1, so that missing clipping shows."""


def check_kind(canaries: CanarySet) -> None:
    """Raise `ConfigError` for canaries or settings that a federated trainer does not host."""
    if canaries.kind not in KINDS:
        raise ConfigError(f"federated trainers host canaries {', '.join(KINDS)}, not {canaries.kind!r}")
    unknown = set(canaries.parameters) - {"strength", "rank"}
    if unknown:
        raise ConfigError(f"canaries: unknown setting {min(unknown)!r}{nearest(min(unknown), ['strength', 'rank'])}")
    if not float(canaries.parameters.get("strength", STRENGTH)) >= 1:
        raise ConfigError(f"canaries: strength must be at least 1, got {canaries.parameters['strength']}")


def directions(
    canaries: CanarySet, dimension: int, *, law: str, natural: Callable[[], Flat], seeds: Seeds
) -> NDArray[np.float32]:
    """Unit directions (canaries, dimension) of L2 norm 1.

    `client-random`: uniform on the sphere (Andrew et al. 2024, arXiv 2302.03098). `client-orthogonal`: mutually
    orthogonal where there are no more canaries than parameters, so that canaries do not disturb each other; under
    Laplace noise single parameters with a random sign, the longest vectors that an L1 clip lets through.
    `client-crafted`: orthogonal to the leading directions of `natural()` updates (updates, dimension) as well, in the
    spirit of CANIFE (Maddock et al. 2023, arXiv 2210.02912), which crafts data to that end; here the update itself.
    """
    count = len(canaries.inside)
    generator = seeds.at("directions").generator()
    if law == "laplace" and canaries.kind != "client-random":
        if count > dimension:
            raise ConfigError(
                f"{count} {canaries.kind} canaries under Laplace noise need as many parameters, the model has "
                f"{dimension}: use fewer canaries or a larger model"
            )
        axes = np.zeros((count, dimension), np.float32)
        places = np.arange(count), generator.permutation(dimension)[:count]
        axes[places] = generator.choice([-1.0, 1.0], count)
        return axes
    drawn = generator.standard_normal((count, dimension))
    room = dimension
    if canaries.kind == "client-crafted":
        basis = _leading(natural(), int(canaries.parameters.get("rank", 32)), dimension - 1)
        drawn -= (drawn @ basis.T) @ basis
        room -= len(basis)
    if canaries.kind != "client-random" and count <= room:
        drawn = np.linalg.qr(drawn.T)[0].T
    unit: NDArray[np.float32] = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _leading(updates: Flat, rank: int, most: int) -> Floats:
    """An orthonormal basis (rank or less, dimension) of the leading directions of updates."""
    values = np.asarray(updates, np.float64)
    norms = np.linalg.norm(values, axis=1)
    if not (norms > 0).any():
        return np.zeros((0, values.shape[1]))
    values = values[norms > 0] / norms[norms > 0, None]
    _, strengths, basis = np.linalg.svd(values, full_matrices=False)
    kept = int(np.sum(strengths > 1e-9 * strengths[0]))
    return np.asarray(basis[: min(rank, kept, most)])


@dataclass(slots=True)
class CanaryClients:
    """`Guests` of a training: canary i sends `strength` clips along direction i whenever it takes part, if its coin
    said inside. Sampling and failing are those of real clients, on streams of their own, whatever the coins say."""

    directions: NDArray[np.float32]
    inside: BoolArray
    strength: float = STRENGTH
    law: str = "gaussian"
    adaptive: bool = False
    _lengths: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        order = 1 if self.law == "laplace" else 2
        self._lengths = np.linalg.norm(self.directions, ord=order, axis=1).astype(np.float64)

    def answering(self, round_number: int, schedule: Schedule, *, seeds: Seeds) -> NDArray[np.int64]:
        """As in `Guests`."""
        generator = seeds.at("canaries", round_number).generator()
        asked = generator.random(len(self.inside)) < schedule.sample_rate
        return np.flatnonzero(asked & (generator.random(len(self.inside)) >= schedule.dropout))

    def updates(
        self, answering: NDArray[np.int64], clip: float, *, noisy: bool
    ) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """As in `Guests`."""
        sending = answering if noisy else answering[self.inside[answering]]
        for start in range(0, len(sending), PORTION):
            part = sending[start : start + PORTION]
            # An adaptive clip would chase canaries that are all above it: every other one stays just within.
            strength = np.where(part % 2, 1 - 1e-6, self.strength) if self.adaptive else self.strength
            size = self.inside[part] * strength * clip / self._lengths[part]
            yield part, size[:, None] * self.directions[part].astype(np.float64)

    @property
    def shifts(self) -> Floats:
        """(canaries,): how far a clipped canary moves its own projection, in units of the clip."""
        return 1 / self._lengths


@dataclass(slots=True)
class Projections:
    """An `Observer` that keeps of each round what its view shows of every canary's direction.

    In units of the clip and of what a clipped canary adds, so that a canary that is inserted and takes part adds 1.
    `global-models` and `sum`: the sum of the round, (rounds, canaries). `updates`: each canary's own update, 0 where it
    did not take part. `final-model`: the last model minus the first, (1, canaries). `participating` bool
    (rounds, canaries) where the view shows who takes part.
    """

    view: View
    guests: CanaryClients
    schedule: Schedule
    _rows: NDArray[np.float32] = field(init=False)
    _took_part: NDArray[np.bool_] = field(init=False)
    _first: Floats | None = None
    _last: Floats | None = None

    def __post_init__(self) -> None:
        rounds = 1 if self.view == "final-model" else self.schedule.rounds
        self._rows = np.zeros((rounds, len(self.guests.inside)), np.float32)
        self._took_part = np.zeros((rounds, len(self.guests.inside)), np.bool_)

    def model(self, weights: Floats, buffers: Buffers) -> None:
        """As in `Observer`."""
        del buffers
        if self._first is None:
            self._first = weights
        self._last = weights

    def sent(self, round_number: int, clients: NDArray[np.int64], updates: Floats, examples: NDArray[np.int64]) -> None:
        """As in `Observer`."""

    def canaries_sent(self, round_number: int, canaries: NDArray[np.int64], updates: Floats, clip: float) -> None:
        """As in `Observer`."""
        if self.view == "updates":
            own = np.einsum("kd,kd->k", updates, self.guests.directions[canaries])
            self._rows[round_number, canaries] = own / clip / self.guests.shifts[canaries]

    def took_part(self, round_number: int, canaries: NDArray[np.int64]) -> None:
        """As in `Observer`."""
        if self._servers:
            self._took_part[round_number, canaries] = True

    def total(self, round_number: int, total: Floats, clip: float, clients: NDArray[np.int64]) -> None:
        """As in `Observer`."""
        del clients
        if self.view == "sum":
            self._project(round_number, total, 1.0 if np.isinf(clip) else clip)

    def released(self, round_number: int, total: Floats, clip: float) -> None:
        """As in `Observer`."""
        if self.view == "global-models":
            self._project(round_number, total, clip)

    def transcript(self) -> dict[str, Any]:
        """`projections`, and `participating` where it is seen."""
        if self.view == "final-model" and self._first is not None and self._last is not None:
            how = self.schedule
            gain = how.server_learning_rate / (1 - how.server_momentum)
            self._project(0, (self._last - self._first) * how.expected_cohort / gain, 1.0)
            return {"projections": self._rows}
        if self._servers:
            return {"projections": self._rows, "participating": self._took_part}
        return {"projections": self._rows}

    @property
    def _servers(self) -> bool:
        return self.view in ("updates", "sum")

    def _project(self, row: int, total: Floats, clip: float) -> None:
        seen = self.guests.directions @ total.astype(np.float32)
        self._rows[row] = seen / clip / self.guests.shifts


def public_facts(protection: Protection | None, schedule: Schedule, view: View, canaries: int) -> Mapping[str, float]:
    """What an observer knows of a canary run: numbers from the configuration, nothing that was realised."""
    seen = None if protection is None else protection.against(view)
    noise = 0.0 if seen is None else seen.noise_multiplier
    return {
        "sample_rate": schedule.sample_rate * (1 - schedule.dropout),
        "noise_multiplier": noise,
        "rounds": float(schedule.rounds),
        "expected_cohort": schedule.expected_cohort,
        "canaries": float(canaries),
    }
