"""Mechanisms whose epsilon is known exactly, with their best attack: the ground truth of the selftest.

A mechanism releases one output for a canary that is inside or not. `score` draws the log-likelihood ratio of that
output, higher for inside; `true_positive_rate` is its best test.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..bounds.dp_sgd_curve import dp_sgd_epsilon
from ..bounds.gaussian import gaussian_mu

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class KnownMechanism(Protocol):
    """A mechanism that is (epsilon, delta)-DP and no better."""

    @property
    def name(self) -> str:
        """How the table calls it."""

    @property
    def epsilon(self) -> float:
        """The true epsilon at `delta`."""

    @property
    def delta(self) -> float:
        """Where `epsilon` holds."""

    def score(self, inside: Bools, generator: np.random.Generator) -> Floats:
        """One log-likelihood ratio for each entry of `inside`, same shape."""

    def true_positive_rate(self, false_positive_rate: float) -> float:
        """The most powerful test's true positive rate."""


@dataclass(frozen=True, slots=True)
class RandomizedResponse:
    """The bit itself with probability e^eps / (1 + e^eps), revealed outright with probability delta.

    Every pair of rates on the boundary of (epsilon, delta)-DP is attained, so no mechanism is worse. Epsilon 0 is
    the null: the output says nothing.
    """

    epsilon: float
    delta: float = 0.0

    @property
    def name(self) -> str:
        """`null`, `randomized-response` or, with delta, `give-away`."""
        if self.delta:
            return f"give-away({self.epsilon:g}, {self.delta:g})"
        return f"randomized-response({self.epsilon:g})" if self.epsilon else "null"

    def score(self, inside: Bools, generator: np.random.Generator) -> Floats:
        """+-epsilon, or +-(epsilon + 1) for an output that gives the bit away."""
        honest = generator.random(inside.shape) < special.expit(self.epsilon)
        given = generator.random(inside.shape) < self.delta
        sign = np.where(honest | given, 1.0, -1.0) * np.where(inside, 1.0, -1.0)
        return np.asarray(sign * (self.epsilon + given))

    def true_positive_rate(self, false_positive_rate: float) -> float:
        """The boundary of the region."""
        growth = math.exp(self.epsilon)
        steep = self.delta + growth * false_positive_rate
        return min(steep, 1 - (1 - self.delta - false_positive_rate) / growth, 1.0)


@dataclass(frozen=True, slots=True)
class Laplace:
    """A count of sensitivity 1 with Laplace noise of scale 1 / epsilon."""

    epsilon: float
    delta: float = 0.0

    @property
    def name(self) -> str:
        """`laplace(epsilon)`."""
        return f"laplace({self.epsilon:g})"

    def score(self, inside: Bools, generator: np.random.Generator) -> Floats:
        """epsilon (|x| - |x - 1|), between -epsilon and epsilon."""
        x = inside + generator.laplace(0.0, 1 / self.epsilon, inside.shape)
        # Not |x| - |x - 1|: its rounding error tells 1 + noise from 0 + noise (Mironov 2012). With guesses ordered by
        # it, one-run-anytime claimed more than epsilon in 92 % of audits, and was right.
        return np.asarray(self.epsilon * np.clip(2 * x - 1, -1.0, 1.0))

    def true_positive_rate(self, false_positive_rate: float) -> float:
        """Threshold on the released count."""
        tail = false_positive_rate
        t = (-math.log(2 * tail) if tail < 0.5 else math.log(2 * (1 - tail))) / self.epsilon
        return 0.5 * math.exp(-self.epsilon * (t - 1)) if t >= 1 else 1 - 0.5 * math.exp(self.epsilon * (t - 1))


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A sum of sensitivity 1 with Gaussian noise whose epsilon at `delta` is `epsilon`."""

    epsilon: float
    delta: float = 1e-5

    @property
    def name(self) -> str:
        """`gaussian(epsilon)`."""
        return f"gaussian({self.epsilon:g})"

    @property
    def mu(self) -> float:
        """The distance of the two normal laws in standard deviations."""
        return _mu(self.epsilon, self.delta)

    def score(self, inside: Bools, generator: np.random.Generator) -> Floats:
        """mu x - mu^2 / 2 of a normal x with mean mu inside and 0 outside."""
        mu = self.mu
        return np.asarray(mu * (generator.standard_normal(inside.shape) + mu * (inside - 0.5)))

    def true_positive_rate(self, false_positive_rate: float) -> float:
        """Threshold on the release."""
        return float(special.ndtr(special.ndtri(false_positive_rate) + self.mu))


@dataclass(frozen=True, slots=True)
class SubsampledGaussian:
    """DP-SGD seen by a white-box attacker with one canary direction: Poisson sampling, `steps` noisy sums."""

    sample_rate: float = 0.01
    noise_multiplier: float = 1.0
    steps: int = 1000
    delta: float = 1e-5

    @property
    def name(self) -> str:
        """`dp-sgd(q, sigma, T)`."""
        return f"dp-sgd({self.sample_rate:g}, {self.noise_multiplier:g}, {self.steps})"

    @property
    def epsilon(self) -> float:
        """By the privacy loss distribution, add-remove."""
        return dp_sgd_epsilon(self.noise_multiplier, self.sample_rate, self.steps, self.delta, 2.5e-4)

    def score(self, inside: Bools, generator: np.random.Generator) -> Floats:
        """The sum over the steps of the log-likelihood ratio, each step's rounded to `_GRID`."""
        ratios, outside_law, inside_law = _ratio_laws(self.sample_rate, self.noise_multiplier, self.steps)
        u = generator.random(inside.shape)
        last = len(ratios) - 1
        drawn = np.where(inside, np.searchsorted(inside_law, u), np.searchsorted(outside_law, u))
        return np.asarray(ratios[np.minimum(drawn, last)])

    def true_positive_rate(self, false_positive_rate: float) -> float:
        """Threshold on the summed ratio."""
        _, outside_law, inside_law = _ratio_laws(self.sample_rate, self.noise_multiplier, self.steps)
        return float(1 - np.interp(1 - false_positive_rate, outside_law, inside_law))


_GRID = 1e-3
_REACH = 40.0


@functools.lru_cache(maxsize=64)
def _mu(epsilon: float, delta: float) -> float:
    return gaussian_mu(epsilon, delta)


@functools.lru_cache(maxsize=4)
def _ratio_laws(sample_rate: float, noise: float, steps: int) -> tuple[Floats, Floats, Floats]:
    """Values of the summed log-likelihood ratio, and its distribution function outside and inside.

    One step's ratio is ln(1 - q + q exp((2x - 1) / (2 sigma^2))), increasing in the step's output x. Rounding it is
    post-processing, so the draws are those of a slightly weaker attack on the exact mechanism; the law of the sum is
    an FFT power.
    """
    count = int(2 * _REACH / _GRID)
    ratios = (np.arange(count) - count // 2) * _GRID
    edges = np.append(ratios - _GRID / 2, ratios[-1] + _GRID / 2)
    reachable = np.exp(edges) - (1 - sample_rate)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.where(reachable > 0, noise**2 * np.log(np.maximum(reachable, 1e-300) / sample_rate) + 0.5, -np.inf)
    outside = special.ndtr(x / noise)
    inside = (1 - sample_rate) * outside + sample_rate * special.ndtr((x - 1) / noise)

    def summed(law: Floats) -> Floats:
        one_step = np.fft.ifftshift(np.diff(law))
        mass = np.fft.fftshift(np.fft.irfft(np.fft.rfft(one_step) ** steps, count))
        return np.asarray(np.cumsum(np.maximum(mass, 0.0)))

    return np.asarray(ratios, np.float64), summed(outside), summed(inside)
