"""An Opacus trainer under the three kinds of check, and the game that audits it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from ...audit.checks import CheckResult, probe_noise, probe_sensitivity, run_static_checks
from ...audit.checks.module import check_torch_module
from ...audit.checks.opacus_step import opacus_step
from ...audit.design import CoinTrials
from ...audit.seeds import Seeds
from ...audit.types import Adjacency, Claim
from ...trainers.whitebox import GradientCanaries
from .opacus_record import record_of, sampling_streams
from .opacus_trainer import CLIP, DELTA, FULL, SMALL, WIDTH, OpacusTrainer, Scale, reported_epsilon
from .ranks import Ranks
from .subject import Audited, audited

BATCH, SIGMA = 16, 1.0
SHAPES = ((3, 3), (3,))
"""A layer with its bias, for the probes."""


class Game(Protocol):
    """How an Opacus trainer is attacked."""

    def play(self, trainer: OpacusTrainer, *, seeds: Seeds) -> Audited:
        """Against the real trainer."""

    def simulate(self, trainer: OpacusTrainer, *, seeds: Seeds) -> Audited:
        """The same against a simulation of the correct trainer."""


@dataclass(frozen=True, slots=True)
class CanaryGame:
    """Gradient canaries by fair coins, score by likelihood ratio at the claimed noise, one run."""

    scale: Scale = FULL

    def play(self, trainer: OpacusTrainer, *, seeds: Seeds) -> Audited:
        """A whole `PrivacyEngine` run."""
        fit = trainer.fit(self.scale, seeds=seeds)
        return self._judge(fit.scores, fit.inside, trainer.claim(fit), real=True)

    def simulate(self, trainer: OpacusTrainer, *, seeds: Seeds) -> Audited:
        """Inserted and sampled adds 1, noise has standard deviation sigma: all that the canary layer shows."""
        inside = GradientCanaries(self.scale.canaries).coins(seeds=seeds.at("coins")).inside[0]
        rate, steps = self.rate, self.steps
        epsilon = reported_epsilon(trainer.accountant, ((self.scale.noise_multiplier, rate, steps),))
        claim = Claim(epsilon, DELTA, adjacency=trainer.adjacency)
        return self._judge(self.simulated_scores(inside, seeds=seeds), inside, claim, real=False)

    def simulated_scores(self, inside: Any, *, seeds: Seeds) -> Any:
        """Likelihood ratios (canaries,) of the correct mechanism."""
        generator = seeds.at("simulated").generator()
        sigma, canaries = self.scale.noise_multiplier, self.scale.canaries
        statistic = self.scale.statistic(self.rate)
        for _ in range(self.steps):
            noise = sigma * generator.standard_normal(canaries)
            statistic.update(noise + (inside & (generator.random(canaries) < self.rate)))
        return statistic.scores()

    @property
    def rate(self) -> float:
        """Sampling rate."""
        return self.scale.batch / (self.scale.rows + self.scale.canaries)

    @property
    def steps(self) -> int:
        """Steps of a run."""
        return round(self.scale.epochs / self.rate)

    def _judge(self, scores: Any, inside: Any, claim: Claim, *, real: bool) -> Audited:
        records = GradientCanaries(self.scale.canaries).records
        return audited(
            claim,
            CoinTrials(scores, inside, records, adjacency=Adjacency.ZERO_OUT).count(self.scale.guesses),
            delta=DELTA,
            design=f"one run, {self.scale.canaries} gradient canaries, {self.scale.guesses} guesses",
            real=real,
            adjacency=Adjacency.ZERO_OUT,
        )


@dataclass(frozen=True, slots=True)
class OpacusSubject:
    """A trainer, the game it is attacked with, and the workers that sample for it, if there are several."""

    trainer: OpacusTrainer = field(default_factory=OpacusTrainer)
    game: Game = field(default_factory=CanaryGame)
    ranks: Ranks | None = None

    def static(self, *, seeds: Seeds) -> list[CheckResult]:
        """A small run, its objects, and the behaviour of its model on a random batch."""
        fit = self.trainer.fit(SMALL, seeds=seeds.at("fit"))
        record = record_of(self.trainer, fit, SMALL, seeds=seeds)
        if self.ranks is not None:
            with self.ranks.samplers(seeds=seeds.at("ranks")) as samplers:
                record = replace(record, ranks=len(samplers), sampling_streams=sampling_streams(samplers))
        inputs = torch.randn(8, WIDTH, generator=seeds.at("inputs").torch_generator())
        return [*run_static_checks(record), check_torch_module(fit.model.base, inputs, seeds=seeds)]

    def probe(self, *, seeds: Seeds) -> list[CheckResult]:
        """The optimizer class alone, on a layer with a bias."""
        dimension = sum(torch.Size(shape).numel() for shape in SHAPES)
        step = opacus_step(
            noise_multiplier=SIGMA,
            max_grad_norm=CLIP,
            expected_batch_size=BATCH,
            shapes=SHAPES,
            seeds=seeds.at("noise"),
            optimizer_class=self.trainer.optimizer,
        )
        return [
            *probe_sensitivity(step, clip=CLIP, dimension=dimension, divisor=BATCH, seeds=seeds),
            *probe_noise(step, noise_multiplier=SIGMA, clip=CLIP, dimension=dimension, divisor=BATCH),
        ]

    def dynamic(self, *, seeds: Seeds) -> Audited:
        """The game against the real trainer."""
        return self.game.play(self.trainer, seeds=seeds)

    def again(self, *, seeds: Seeds) -> Audited:
        """The game against its simulation."""
        return self.game.simulate(self.trainer, seeds=seeds)
