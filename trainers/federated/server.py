"""The server's part of a round as pure functions: clip, add up, add noise, divide by a public number, step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray
from .layout import Flat

Law = Literal["gaussian", "laplace"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Clipped:
    """Updates (clients, dimension) float64 of norm at most the clip, `within` (clients,): which needed no clipping,
    `rejected` (clients,): which held NaN or infinity and count as zero."""

    updates: Floats
    within: BoolArray
    rejected: BoolArray


def clip_updates(deltas: Flat, clip: float | None, *, law: Law = "gaussian") -> Clipped:
    """Scale each client's delta (clients, dimension) to norm at most `clip` over all parameters together: L2 for
    Gaussian noise, L1 for Laplace. None clips nothing.

    An update with NaN or infinity becomes a zero update and is `rejected`: dropping the client's weight from the
    divisor instead would let its data change what the others count.
    """
    values = np.asarray(deltas, np.float64)
    rejected: BoolArray = np.logical_not(np.isfinite(values).all(axis=1))
    if rejected.any():
        values = np.where(rejected[:, None], 0.0, values)
    if clip is None:
        return Clipped(values, np.ones(len(values), np.bool_), rejected)
    norms = np.abs(values).sum(1) if law == "laplace" else np.sqrt(np.einsum("kd,kd->k", values, values))
    # Only what exceeds is scaled, and a zero update needs no division (Flower 1.41.0 divides by its norm).
    factors = np.where(norms > clip, clip / np.maximum(norms, np.finfo(np.float64).tiny), 1.0)
    return Clipped(values * factors[:, None], norms <= clip, rejected)


def noise(shape: int | tuple[int, ...], scale: float, *, law: Law = "gaussian", seeds: Seeds) -> Floats:
    """Noise of `scale`: the standard deviation of Gaussian, the scale b of Laplace (standard deviation b sqrt 2)."""
    if scale == 0:
        return np.zeros(shape)
    generator = seeds.at("noise").generator()
    drawn: Floats = generator.laplace(size=shape) if law == "laplace" else generator.standard_normal(shape)
    return drawn * scale


@dataclass(frozen=True, slots=True)
class Aggregation:
    """The public numbers of a round. `expected_cohort` = sampling rate times nominal clients divides every sum,
    whoever took part. `noise_multiplier` is the central noise over the clip, 0 without."""

    expected_cohort: float
    clip: float | None = None
    noise_multiplier: float = 0.0
    law: Law = "gaussian"

    def __post_init__(self) -> None:
        if not (self.expected_cohort > 0 and math.isfinite(self.expected_cohort)):
            raise ConfigError(f"expected_cohort must be a positive number, got {self.expected_cohort}")
        if self.clip is not None and not (self.clip > 0 and math.isfinite(self.clip)):
            raise ConfigError(f"clip must be a positive number, got {self.clip}")
        if not self.noise_multiplier >= 0:
            raise ConfigError(f"noise_multiplier must be >= 0, got {self.noise_multiplier}")
        if self.noise_multiplier and self.clip is None:
            raise ConfigError("noise without a clip protects nothing: set clip")

    @property
    def noise_scale(self) -> float:
        """Central noise on the sum, in the units of an update."""
        return 0.0 if self.clip is None else self.noise_multiplier * self.clip


def aggregate(total: Flat, how: Aggregation, *, seeds: Seeds) -> Floats:
    """The released mean (dimension,): the sum of clipped updates, plus central noise, over the expected cohort.

    `seeds` are `round_seeds`. An empty cohort (`total` zero) releases noise like any other round.
    """
    drawn = noise(len(total), how.noise_scale, law=how.law, seeds=seeds.at("central"))
    return (np.asarray(total, np.float64) + drawn) / how.expected_cohort


@dataclass(frozen=True, slots=True)
class ServerState:
    """The global model between rounds: weights and momentum, float64 (dimension,)."""

    weights: Floats
    momentum: Floats

    @classmethod
    def start(cls, weights: Flat) -> ServerState:
        """At rest."""
        return cls(np.asarray(weights, np.float64), np.zeros(len(weights)))


def server_step(state: ServerState, mean: Floats, *, learning_rate: float = 1.0, momentum: float = 0.0) -> ServerState:
    """m = momentum m + mean; weights += learning_rate m (FedAvgM, Hsu et al. 2019, arXiv 1909.06335)."""
    moving = momentum * state.momentum + mean
    return replace(state, weights=state.weights + learning_rate * moving, momentum=moving)


def weighted_mean(deltas: Flat, examples: NDArray[np.int64]) -> Floats:
    """FedAvg's mean by number of examples over the clients that answered; never under noise, whose sensitivity it
    breaks. Zero where nobody has an example."""
    total = float(examples.sum())
    if not total:
        return np.zeros(deltas.shape[1])
    mean: Floats = (examples / total) @ np.asarray(deltas, np.float64)
    return mean
