"""DP-FedAvg's server in numpy (McMahan et al. 2018, arXiv 1710.06963), right as it stands, made of parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from ...attacks.canary.gradient import LogLikelihoodRatio
from ...audit.accounting import dp_sgd_claim
from ...audit.checks import (
    CheckResult,
    Divisor,
    TrainingRecord,
    probe_noise,
    probe_sensitivity,
    run_static_checks,
)
from ...audit.design import CoinTrials, coin_flips
from ...audit.seeds import Seeds
from ...audit.types import Adjacency, Claim, FloatArray, IntArray, Unit
from .subject import Audited, audited, generator_state

CLIP, SIGMA, DIVISOR, DELTA = 1.0, 1.0, 20.0, 1e-6
CLIENTS, RATE, ROUNDS, GUESSES = 2000, 0.01, 1000, 400
EXAMPLES_CAP, EXAMPLES_MEAN = 100, 5
DIMENSION = 12


def capped_weights(examples: IntArray) -> FloatArray:
    """The right way: no client weighs more than 1, which the sensitivity assumes."""
    return np.minimum(examples / EXAMPLES_CAP, 1.0)


def relative_weights(examples: IntArray) -> FloatArray:
    """By number of examples over the average number: large clients weigh more than 1."""
    return examples / EXAMPLES_MEAN


def central_noise(generator: np.random.Generator, clients: int, dimension: int) -> FloatArray:  # noqa: ARG001
    """The right way: the server draws all noise, whoever took part. In units of sigma C."""
    return generator.standard_normal(dimension)


def noise_shares(generator: np.random.Generator, clients: int, dimension: int) -> FloatArray:
    """Each client adds its share of the noise for the planned number of clients; who stays away brings none."""
    return math.sqrt(clients / DIVISOR) * generator.standard_normal(dimension)


@dataclass(frozen=True, slots=True)
class FederatedMean:
    """One round: clip each client's update, weigh, sum, add noise, divide by a public number."""

    weights: Callable[[IntArray], FloatArray] = capped_weights
    noise: Callable[[np.random.Generator, int, int], FloatArray] = central_noise

    def aggregate(self, updates: FloatArray, examples: IntArray, generator: np.random.Generator | None) -> FloatArray:
        """Updates (clients, dimension) and their numbers of examples (clients,) to the released mean (dimension,).

        Without a generator there is no noise. Undefined entries count as zero.
        """
        finite = np.nan_to_num(updates, nan=0.0, posinf=0.0, neginf=0.0)
        norms = np.linalg.norm(finite, axis=1)
        factors = self.weights(examples) * np.minimum(1.0, CLIP / np.maximum(norms, 1e-300))
        total: FloatArray = factors @ finite
        if generator is not None:
            total = total + SIGMA * CLIP * self.noise(generator, len(updates), total.shape[0])
        return total / DIVISOR


@dataclass(frozen=True, slots=True)
class FederatedSubject:
    """The server under the three kinds of check, at client level."""

    server: FederatedMean = field(default_factory=FederatedMean)

    def static(self, *, seeds: Seeds) -> list[CheckResult]:
        """Some rounds with their generator watched; weights and divisor measured on clients of all sizes."""
        generator, states = seeds.generator(), []
        sizes = np.array([1, 10, 10_000])
        for _ in range(50):
            states.append(generator_state(generator))
            self.server.aggregate(np.ones((len(sizes), DIMENSION)), sizes, generator)
        claim = client_claim()
        return run_static_checks(
            TrainingRecord(
                claim=claim,
                accountant=claim.accountant,
                accountant_adjacency=claim.adjacency,
                divisor=self._divisor(),
                weights_bounded=bool(self.server.weights(sizes).max() <= 1),
                noise_seeds=tuple(states),
            )
        )

    def probe(self, *, seeds: Seeds) -> list[CheckResult]:
        """One round; the client in place i of a batch has 1 + 12 i examples, so that the last one is the largest."""
        generator = seeds.at("noise").generator()

        def step(gradients: FloatArray, *, noise: bool) -> FloatArray:
            examples = 1 + 12 * np.arange(len(gradients))
            return self.server.aggregate(gradients, examples, generator if noise else None)

        return [
            *probe_sensitivity(step, clip=CLIP, dimension=DIMENSION, divisor=DIVISOR, seeds=seeds),
            *probe_noise(step, noise_multiplier=SIGMA, clip=CLIP, dimension=DIMENSION, divisor=DIVISOR),
        ]

    def dynamic(self, *, seeds: Seeds) -> Audited:
        """Canary clients by fair coins, each with an update of 10 C along a coordinate of its own and many examples."""
        records = tuple(f"client-{i:05d}" for i in range(CLIENTS))
        inside = coin_flips(records, 1, seeds=seeds.at("coins"), unit=Unit.CLIENT).inside[0]
        sampling, noise = seeds.at("sampling").generator(), seeds.at("noise").generator()
        statistic = LogLikelihoodRatio(RATE, SIGMA / 2)
        for _ in range(ROUNDS):
            drawn = np.flatnonzero(sampling.random(CLIENTS) < RATE)
            updates = np.zeros((len(drawn), CLIENTS))
            updates[np.arange(len(drawn)), drawn] = 10 * CLIP * inside[drawn]
            released = self.server.aggregate(updates, np.full(len(drawn), EXAMPLES_CAP), noise)
            statistic.update(np.asarray(released * DIVISOR / CLIP, np.float64))
        trials = CoinTrials(statistic.scores(), inside, records, Unit.CLIENT, Adjacency.ZERO_OUT)
        return audited(
            client_claim(),
            trials.count(GUESSES),
            delta=DELTA,
            design=f"one run, {CLIENTS} canary clients, {GUESSES} guesses",
            real=True,
            adjacency=Adjacency.ZERO_OUT,
            unit=Unit.CLIENT,
        )

    def again(self, *, seeds: Seeds) -> Audited:
        """The same: it is cheap."""
        return self.dynamic(seeds=seeds)

    def _divisor(self) -> Divisor:
        """Twice the clients must move the mean twice as far."""
        one, two = (self.server.aggregate(np.ones((n, DIMENSION)), np.full(n, 10), None) for n in (4, 8))
        return Divisor.PUBLIC if np.allclose(2 * one, two) else Divisor.REALISED_BATCH


@lru_cache(maxsize=1)
def client_claim() -> Claim:
    """What the accountant says of these rounds."""
    return dp_sgd_claim(noise_multiplier=SIGMA, sample_rate=RATE, steps=ROUNDS, delta=DELTA, unit=Unit.CLIENT)
