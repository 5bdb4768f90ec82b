"""Games against Opacus trainers that need many runs: the divisor that tells the number of rows, shuffled batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...audit.accounting import dp_sgd_claim
from ...audit.design import RunTrials
from ...audit.seeds import Seeds
from ...audit.types import Adjacency
from .. import opacus_normalisation as normalisation
from .. import shuffle
from .opacus_trainer import OpacusTrainer
from .subject import Audited, audited

NOISE = 2.0


@dataclass(frozen=True, slots=True)
class DivisorGame:
    """`PrivacyEngine` with 100 rows against 99: the variance of the final weights, 60 runs a side."""

    runs: int = normalisation.RUNS

    def play(self, trainer: OpacusTrainer, *, seeds: Seeds) -> Audited:
        """Real runs, with the divisor as made by Opacus where the trainer keeps it."""
        divisor: normalisation.Divisor = "opacus" if trainer.optimizer is None else "fixed"
        inside = np.repeat([True, False], self.runs)
        weights = [
            normalisation.final_weights(normalisation.ROWS - (not there), divisor, NOISE, seeds=seeds.at(i))
            for i, there in enumerate(inside)
        ]
        return self._judge(np.array([w.var() for w in weights]), inside, real=True)

    def simulate(self, trainer: OpacusTrainer, *, seeds: Seeds) -> Audited:  # noqa: ARG002
        """With a public divisor both sides have the same law."""
        variances = simulated_variances(2 * self.runs, seeds=seeds)
        return self._judge(variances, np.repeat([True, False], self.runs), real=False)

    def _judge(self, variances: NDArray[np.float64], inside: NDArray[np.bool_], *, real: bool) -> Audited:
        here = normalisation
        claim = dp_sgd_claim(
            noise_multiplier=NOISE, sample_rate=here.BATCH / here.ROWS, steps=here.STEPS, delta=here.DELTA
        )
        counts = RunTrials(-np.log(variances), inside).count(-math.log(here.midpoint_variance(NOISE)))
        design = f"{self.runs} runs a side, variance of the weights"
        return audited(claim, counts, delta=here.DELTA, design=design, real=real, adjacency=Adjacency.ADD_REMOVE)


@dataclass(frozen=True, slots=True)
class ShuffleGame:
    """The largest of 10,000 steps of one epoch at noise 0.5, 2000 runs a side: always by simulation, for real runs
    would take days. `agreement` holds the simulation against real ones."""

    def play(self, trainer: OpacusTrainer, *, seeds: Seeds) -> Audited:
        """With the trainer's sampler."""
        return _shuffle_audit("poisson" if trainer.sampling == "poisson" else "shuffle", seeds)

    def simulate(self, trainer: OpacusTrainer, *, seeds: Seeds) -> Audited:
        """The same."""
        return self.play(trainer, seeds=seeds)


def simulated_variances(runs: int, *, seeds: Seeds) -> NDArray[np.float64]:
    """Variances (runs,) of the final weights of models trained on zero features with a public divisor: random walks."""
    here = normalisation
    deviation = math.sqrt(here.STEPS) * here.LEARNING_RATE * NOISE * here.MAX_GRAD_NORM / here.BATCH
    weights = deviation * seeds.generator().standard_normal((runs, here.WIDTH))
    found: NDArray[np.float64] = weights.var(axis=1)
    return found


def _shuffle_audit(sampler: shuffle.Sampler, seeds: Seeds) -> Audited:
    design = shuffle.DESIGNS[-1]
    return audited(
        shuffle.poisson_claim(),
        shuffle.audit(sampler, design, seeds=seeds),
        delta=shuffle.DELTA,
        design=f"{design.runs} runs a side, largest of {shuffle.STEPS} steps",
        real=False,
        adjacency=Adjacency.ZERO_OUT,
    )
