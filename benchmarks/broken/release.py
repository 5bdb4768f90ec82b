"""One Gaussian release of a sum of bounded values, and noise drawn in another precision than the sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...audit.accounting import dp_sgd_claim
from ...audit.checks import CheckResult, TrainingRecord, probe_noise, probe_sensitivity, run_static_checks
from ...audit.design import RunTrials
from ...audit.seeds import Seeds
from ...audit.types import Adjacency, Claim, FloatArray
from .subject import Audited, audited, generator_state

RANGE, SIGMA, DELTA, RUNS = 1e-3, 4.0, 1e-5, 400
GRID = 2.0**-40
"""Spacing of what the right mechanism releases, far below the noise."""
DIMENSION = 6


def grid_noise(generator: np.random.Generator, size: int) -> FloatArray:
    """The right way: noise on a fixed grid, on which the sum lies too, so that low bits say nothing."""
    return np.round(SIGMA * RANGE * generator.standard_normal(size) / GRID) * GRID


def half_precision_noise(generator: np.random.Generator, size: int) -> FloatArray:
    """Noise as a half-precision tensor, added to a double: a sum of zero stays a half-precision number."""
    return (SIGMA * RANGE * generator.standard_normal(size)).astype(np.float16).astype(np.float64)


@dataclass(frozen=True, slots=True)
class ReleaseSubject:
    """The release under the three kinds of check. `noise` draws (size,) of standard deviation sigma times range."""

    noise: Callable[[np.random.Generator, int], FloatArray] = grid_noise

    def release(self, values: FloatArray, generator: np.random.Generator | None) -> FloatArray:
        """Rows (units, dimension), clipped to norm `RANGE`, summed on the grid, with noise."""
        finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        norms = np.linalg.norm(finite, axis=1, keepdims=True)
        total: FloatArray = (finite * np.minimum(1.0, RANGE / np.maximum(norms, 1e-300))).sum(axis=0)
        total = np.round(total / GRID) * GRID
        return total if generator is None else total + self.noise(generator, total.shape[0])

    def static(self, *, seeds: Seeds) -> list[CheckResult]:
        """Little to look at: the accountant, and the noise generator over some releases."""
        generator, states = seeds.generator(), []
        for _ in range(20):
            states.append(generator_state(generator))
            self.release(np.ones((3, DIMENSION)), generator)
        claim = release_claim()
        return run_static_checks(
            TrainingRecord(
                claim=claim,
                accountant=claim.accountant,
                accountant_adjacency=claim.adjacency,
                noise_seeds=tuple(states),
            )
        )

    def probe(self, *, seeds: Seeds) -> list[CheckResult]:
        """The release as a step."""
        generator = seeds.at("noise").generator()

        def step(gradients: FloatArray, *, noise: bool) -> FloatArray:
            return self.release(gradients, generator if noise else None)

        return [
            *probe_sensitivity(step, clip=RANGE, dimension=DIMENSION, seeds=seeds),
            *probe_noise(step, noise_multiplier=SIGMA, clip=RANGE, dimension=DIMENSION),
        ]

    def dynamic(self, *, seeds: Seeds) -> Audited:
        """One record or none; guess that it is there unless the release is a half-precision number."""
        inside = np.repeat([True, False], RUNS)
        generator = seeds.at("runs").generator()
        data = {True: np.array([[RANGE]]), False: np.zeros((0, 1))}
        released = np.array([self.release(data[bool(there)], generator)[0] for there in inside])
        scores = (released != released.astype(np.float16)).astype(np.float64)
        return audited(
            release_claim(),
            RunTrials(scores, inside).count(0.5),
            delta=DELTA,
            design=f"{RUNS} runs a side, is the release a half-precision number",
            real=True,
            adjacency=Adjacency.ADD_REMOVE,
        )

    def again(self, *, seeds: Seeds) -> Audited:
        """The same: it is cheap."""
        return self.dynamic(seeds=seeds)


@lru_cache(maxsize=1)
def release_claim() -> Claim:
    """The Gaussian mechanism's."""
    return dp_sgd_claim(noise_multiplier=SIGMA, sample_rate=1.0, steps=1, delta=DELTA)
