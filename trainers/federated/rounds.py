"""The rounds of one federated training: sample, train, clip, noise, add up, step; observers watch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import Progress, silent
from ..checkpoint import Checkpoint, State
from .cohort import draw_cohort, draw_survivors, round_seeds
from .layout import Buffers, Flat, mean_buffers
from .protection import Protection
from .sending import RoundSum, masks_of
from .server import Aggregation, Floats, ServerState, aggregate, noise, server_step
from .stack import LocalTrainer

Weighting = Literal["uniform", "examples"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """The public numbers of a training. `sample_rate` is each client's chance to be asked in a round, `dropout` its
    chance to fail then. `weighting` "uniform" divides sums by `expected_cohort`; "examples" takes the mean by number of
    examples over those that answered, which no noise protects. `masked` sums really run secure aggregation."""

    rounds: int
    sample_rate: float
    expected_cohort: float
    dropout: float = 0.0
    server_learning_rate: float = 1.0
    server_momentum: float = 0.0
    weighting: Weighting = "uniform"
    masked: bool = False

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"rounds must be at least 1, got {self.rounds}")
        if not 0 < self.sample_rate <= 1:
            raise ConfigError(
                f"the cohort over the nominal clients must lie in (0, 1], got {self.sample_rate:g}: lower cohort"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"client_dropout must lie in [0, 1), got {self.dropout}")
        if not self.server_learning_rate > 0:
            raise ConfigError(f"server_learning_rate must be > 0, got {self.server_learning_rate}")
        if not 0 <= self.server_momentum < 1:
            raise ConfigError(f"server_momentum must lie in [0, 1), got {self.server_momentum}")
        if self.weighting not in ("uniform", "examples"):
            raise ConfigError(f"weighting must be 'uniform' or 'examples', got {self.weighting!r}")


class Observer(Protocol):
    """Sees a training as it happens; what it keeps is what its view allows."""

    def model(self, weights: Floats, buffers: Buffers) -> None:
        """The global model before the first round, then after each."""

    def sent(self, round_number: int, clients: NDArray[np.int64], updates: Floats, examples: NDArray[np.int64]) -> None:
        """Updates (part, dimension) as they leave these clients, positions among the real ones."""

    def canaries_sent(self, round_number: int, canaries: NDArray[np.int64], updates: Floats, clip: float) -> None:
        """The same of canaries."""

    def took_part(self, round_number: int, canaries: NDArray[np.int64]) -> None:
        """Which canaries answered, inserted or not."""

    def total(self, round_number: int, total: Floats, clip: float, clients: NDArray[np.int64]) -> None:
        """The sum of a round before central noise; `clients` are the real ones that answered."""

    def released(self, round_number: int, total: Floats, clip: float) -> None:
        """The sum with central noise, which two consecutive global models give away."""


class Guests(Protocol):
    """Canary clients: who of them answers in a round, and what they send."""

    def answering(self, round_number: int, schedule: Schedule, *, seeds: Seeds) -> NDArray[np.int64]:
        """Positions of the canaries that take part, inserted or not."""

    def updates(
        self, answering: NDArray[np.int64], clip: float, *, noisy: bool
    ) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """Raw updates in portions; with `noisy` clients, those not inserted send zeros, else nothing."""


@dataclass(slots=True)
class Federation:
    """One training in progress: the global model and everything the rounds need. `round_sum` and `with_noise` are the
    mechanism; a broken variant under test replaces one of them."""

    trainer: LocalTrainer
    schedule: Schedule
    protection: Protection | None
    seeds: Seeds
    state: ServerState
    buffers: Buffers
    observers: Sequence[Observer] = ()
    guests: Guests | None = None
    clip: float = math.inf
    done: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.protection is not None and math.isinf(self.clip):
            self.clip = self.protection.clip

    def run(self, store: Checkpoint | None = None, progress: Progress = silent) -> None:
        """All rounds left. Every round follows from its number and the seeds, so that a resumed run is the same."""
        if self.done == 0:
            for observer in self.observers:
                observer.model(self.state.weights, self.buffers)
        while self.done < self.schedule.rounds:
            self._round(self.done)
            self.done += 1
            progress(self.done, self.schedule.rounds)
            if store is not None:
                store.count(1)
                if store.due():
                    store.write(self.checkpoint())

    def weights(self) -> Flat:
        """The global weights as clients get them, in the model's own type."""
        import torch

        dtype = next(self.trainer.module.parameters()).dtype
        return self.state.weights.astype(np.float64 if dtype == torch.float64 else np.float32)

    def checkpoint(self) -> State:
        """Everything needed to go on."""
        import torch

        tensors = {
            "weights": torch.from_numpy(self.state.weights),
            "momentum": torch.from_numpy(self.state.momentum),
            **{f"buffer.{k}": torch.from_numpy(np.asarray(v).copy()) for k, v in self.buffers.items()},
        }
        clip = None if math.isinf(self.clip) else self.clip
        return State(tensors, {"done": self.done, "clip": clip, "counts": dict(self.counts)})

    def restore(self, state: State) -> None:
        """Go on from `checkpoint`."""
        self.state = ServerState(state.tensors["weights"].numpy(), state.tensors["momentum"].numpy())
        self.buffers = {k: state.tensors[f"buffer.{k}"].numpy() for k in self.buffers}
        self.done = state.values["done"]
        self.clip = math.inf if state.values["clip"] is None else state.values["clip"]
        self.counts = Counter(state.values["counts"])

    def _round(self, number: int) -> None:
        asked = draw_cohort(self.trainer.names, self.schedule.sample_rate, seeds=self.seeds, round_number=number)
        alive = draw_survivors(asked, self.schedule.dropout, seeds=self.seeds, round_number=number)
        clients = np.flatnonzero(alive)
        canaries = np.empty(0, np.int64)
        if self.guests is not None:
            canaries = self.guests.answering(number, self.schedule, seeds=self.seeds)
        self.counts["asked"] += int(asked.sum())
        self.counts["answered"] += len(clients)
        self.counts["rounds_of_one_client"] += len(clients) + len(canaries) == 1
        self.counts["empty_rounds"] += not len(clients) + len(canaries)
        if self._too_few(len(clients) + len(canaries)):
            self.counts["skipped_rounds"] += 1
        else:
            self._release(number, np.flatnonzero(asked), clients, canaries)
        for observer in self.observers:
            observer.model(self.state.weights, self.buffers)

    def _too_few(self, answered: int) -> bool:
        """Whether the noise shares of those who answered would be too few to release their sum."""
        return self.protection is not None and self.protection.client > 0 and answered < self.protection.least_cohort

    def _release(
        self, number: int, asked: NDArray[np.int64], clients: NDArray[np.int64], canaries: NDArray[np.int64]
    ) -> None:
        """A round that is not skipped: collect, add up, and move the model."""
        summing = self.round_sum(number, asked, len(clients) + len(canaries))
        by_examples, examples = self.schedule.weighting == "examples", 0
        held: list[Buffers] = []
        for part in self.trainer.updates(self.weights(), self.buffers, clients, seeds=self.seeds, round_number=number):
            names = [self.trainer.names[c] for c in part.clients.tolist()]
            sent = summing.add(names, part.deltas, part.examples if by_examples else None)
            examples += int(part.examples.sum())
            held += part.buffers
            for observer in self.observers:
                observer.sent(number, part.clients, sent, part.examples)
        self._invite(summing, canaries)
        dropped = [self.trainer.names[c] for c in np.setdiff1d(asked, clients).tolist()]
        total = summing.total(dropped)
        self.counts["rejected_updates"] += summing.rejected
        self.counts["sent"] += len(clients)
        for observer in self.observers:
            observer.total(number, total, self._unit, clients)
        mean = total / max(examples, 1) if by_examples else self._mean(number, total, summing.within)
        how = self.schedule
        self.state = server_step(self.state, mean, learning_rate=how.server_learning_rate, momentum=how.server_momentum)
        if held and not self.trainer.freeze_buffers:
            self.buffers = mean_buffers(held)

    def round_sum(self, number: int, asked: NDArray[np.int64], answered: int) -> RoundSum:
        """The empty sum of a round, into which clients and canaries hand their updates."""
        dimension, private = len(self.state.weights), self.protection
        masks = None
        if self.schedule.masked and private is not None:
            names = [self.trainer.names[c] for c in asked.tolist()]
            masks = masks_of(names, dimension, private, self.clip, seeds=self.seeds, round_number=number)
        return RoundSum(number, dimension, private, self.clip, self.seeds, answered, masks)

    def _invite(self, summing: RoundSum, canaries: NDArray[np.int64]) -> None:
        """Canaries send their updates as any client does."""
        if self.guests is None or not len(canaries):
            return
        for observer in self.observers:
            observer.took_part(summing.number, canaries)
        noisy = self.protection is not None and self.protection.client > 0
        for part, raw in self.guests.updates(canaries, self._unit, noisy=noisy):
            sent = summing.add([f"canary-{c}" for c in part.tolist()], raw)
            for observer in self.observers:
                observer.canaries_sent(summing.number, part, sent, self._unit)

    @property
    def _unit(self) -> float:
        """The clip, or 1 without one: what canaries and projections are measured in."""
        return 1.0 if math.isinf(self.clip) else self.clip

    def with_noise(self, number: int, total: Floats) -> Floats:
        """The sum with the server's noise on it."""
        private = self.protection
        if private is None:
            return total
        how = Aggregation(1.0, self.clip, private.update_noise, private.law)
        return aggregate(total, how, seeds=round_seeds(self.seeds, number))

    def _mean(self, number: int, total: Floats, within: float) -> Floats:
        private, here = self.protection, round_seeds(self.seeds, number)
        cohort = self.schedule.expected_cohort
        released = self.with_noise(number, total)
        for observer in self.observers:
            observer.released(number, released, self._unit)
        if private is not None and private.adaptive is not None:
            counted = within + float(noise(1, private.adaptive.count_noise, seeds=here.at("count"))[0])
            self.clip = private.adaptive.next_clip(self.clip, counted, cohort)
        return released / cohort
