"""Workers that sample by Opacus's own distributed sampler, with generators of their own or with one seed for all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from ...audit.checks.opacus_step import opacus_step
from ...audit.design import CoinTrials
from ...audit.seeds import Seeds
from ...audit.types import Adjacency, BoolArray, Claim, FloatArray, IntArray
from ...trainers.whitebox import GradientCanaries
from .optimizers import Guarded
from .subject import Audited, audited

if TYPE_CHECKING:
    from .opacus_trainer import OpacusTrainer

CANARIES, GUESSES = 1000, 200
CLIP, SIGMA = 1.0, 1.0


@dataclass(frozen=True, slots=True)
class Ranks:
    """`shared_seed`: the training script seeds every process alike, as is done for the weights."""

    shared_seed: bool = False
    workers: int = 8
    rows: int = 8 * CANARIES
    rate: float = 0.01
    steps: int = 1000

    @contextlib.contextmanager
    def samplers(self, *, seeds: Seeds) -> Iterator[list[Any]]:
        """One `DistributedUniformWithReplacementSampler` a worker, as each process would build it."""
        from opacus.utils.uniform_sampler import DistributedUniformWithReplacementSampler

        built = []
        for rank in range(self.workers):
            with (
                mock.patch("torch.distributed.get_world_size", return_value=self.workers),
                mock.patch("torch.distributed.get_rank", return_value=rank),
            ):
                # Without the shuffle places can be read off the rows; its seed is public anyway.
                built.append(
                    DistributedUniformWithReplacementSampler(
                        total_size=self.rows,
                        sample_rate=self.rate,
                        shuffle=False,
                        steps=self.steps,
                        generator=seeds.at(0 if self.shared_seed else rank).torch_generator(),
                    )
                )
        yield built


@dataclass(frozen=True, slots=True)
class RanksGame:
    """Canaries in the first worker's share; the adversary knows the records at the same places of all other workers,
    which move a second coordinate for each canary: with identical masks they tell when the canary was drawn."""

    ranks: Ranks = field(default_factory=Ranks)

    def play(self, trainer: OpacusTrainer, *, seeds: Seeds) -> Audited:
        """Opacus's samplers and its optimizer on the sum over workers; the claim is the trainer's at this rate."""
        from .opacus_trainer import DELTA, reported_epsilon

        history = ((SIGMA, self.ranks.rate, self.ranks.steps),)
        claim = Claim(reported_epsilon(trainer.accountant, history), DELTA, adjacency=trainer.adjacency)
        canaries = GradientCanaries(CANARIES)
        inside = canaries.coins(seeds=seeds.at("coins")).inside[0]
        trials = CoinTrials(self._scores(inside, seeds), inside, canaries.records, adjacency=Adjacency.ZERO_OUT)
        return audited(
            claim,
            trials.count(GUESSES),
            delta=DELTA,
            design=f"one run of {self.ranks.workers} workers, {CANARIES} gradient canaries, {GUESSES} guesses",
            real=True,
            adjacency=Adjacency.ZERO_OUT,
        )

    def simulate(self, trainer: OpacusTrainer, *, seeds: Seeds) -> Audited:
        """The same: it is cheap."""
        return self.play(trainer, seeds=seeds)

    def _scores(self, inside: BoolArray, seeds: Seeds) -> NDArray[np.float64]:
        """Sum of 2 x - 1 over the steps at which most of the other workers drew the canary's place, (canaries,)."""
        step = opacus_step(
            noise_multiplier=SIGMA,
            max_grad_norm=CLIP,
            expected_batch_size=1,
            shapes=[(2, CANARIES)],
            seeds=seeds.at("noise"),
            optimizer_class=Guarded,
        )
        # Opacus's distributed sampler skips steps at which its worker draws nothing, and so may end early.
        none = np.empty(0, np.int64)
        scores = np.zeros(CANARIES)
        with self.ranks.samplers(seeds=seeds.at("ranks")) as samplers:
            batches = [iter(sampler) for sampler in samplers]
            for _ in range(self.ranks.steps):
                places = [np.asarray(next(batch, none)) // self.ranks.workers for batch in batches]
                canary, others = step(self._gradients(places, inside), noise=True).reshape(2, CANARIES) / CLIP
                scores += np.where(others > (self.ranks.workers - 1) / 2, 2 * canary - 1, 0.0)
        return scores

    def _gradients(self, places: list[IntArray], inside: BoolArray) -> FloatArray:
        """Gradients (rows drawn, 2 canaries): the canaries' own, then the known records'."""
        known = np.concatenate(places[1:])
        gradients = np.zeros((len(places[0]) + len(known), 2 * CANARIES), np.float32)
        gradients[np.arange(len(places[0])), places[0]] = 10 * CLIP * inside[places[0]]
        gradients[len(places[0]) + np.arange(len(known)), CANARIES + known] = 10 * CLIP
        return gradients
