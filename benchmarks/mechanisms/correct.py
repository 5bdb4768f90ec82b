"""Textbook mechanisms that keep their promise. Rows are numbers or tuples of numbers; noise comes from `rng` alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = Sequence[float]
Ballots = Sequence[Sequence[int]]
"""A row approves (1) or not (0) of each candidate."""


@dataclass(frozen=True, slots=True)
class LaplaceCount:
    """The sum of rows in [0, 1] plus Laplace noise of scale 1 / epsilon: epsilon-DP under add-remove.

    Dwork, McSherry, Nissim, Smith 2006.
    """

    epsilon: float = 1.0

    def __call__(self, dataset: Rows, rng: np.random.Generator) -> float:
        """A noisy count."""
        return float(sum(dataset) + rng.laplace(scale=1 / self.epsilon))


@dataclass(frozen=True, slots=True)
class GaussianSum:
    """The sum of rows clipped to [-1, 1] plus Gaussian noise: 1 / noise_multiplier-GDP under add-remove."""

    noise_multiplier: float = 1.0

    def __call__(self, dataset: Rows, rng: np.random.Generator) -> float:
        """A noisy sum."""
        return float(np.clip(np.asarray(dataset, float), -1, 1).sum() + rng.normal(scale=self.noise_multiplier))


@dataclass(frozen=True, slots=True)
class ExponentialChoice:
    """A candidate with probability proportional to exp(epsilon votes / 2): epsilon-DP under replace-one.

    McSherry and Talwar 2007. Replacing a ballot may raise one candidate and lower another, hence the factor 2.
    """

    epsilon: float = 1.0

    def __call__(self, dataset: Ballots, rng: np.random.Generator) -> int:
        """The index of the chosen candidate."""
        # Gumbel noise and argmax draw from the exponential mechanism's law exactly.
        votes = tally(dataset)
        return int(np.argmax(self.epsilon * votes / 2 + rng.gumbel(size=len(votes))))


@dataclass(frozen=True, slots=True)
class ReportNoisyMax:
    """The candidate with the most votes after Laplace noise of scale 2 / epsilon: epsilon-DP under replace-one.

    Dwork and Roth 2014, section 3.3 (their scale 1 / epsilon is for counts that all move in one direction).
    """

    epsilon: float = 1.0

    def __call__(self, dataset: Ballots, rng: np.random.Generator) -> int:
        """The index of the reported candidate."""
        votes = tally(dataset)
        return int(np.argmax(votes + rng.laplace(scale=2 / self.epsilon, size=len(votes))))


@dataclass(frozen=True, slots=True)
class LaplaceHistogram:
    """How many rows fall into each of `bins` bins, each count with Laplace noise of scale 1 / epsilon (add-remove)."""

    epsilon: float = 1.0
    bins: int = 4

    def __call__(self, dataset: Sequence[int], rng: np.random.Generator) -> NDArray[np.float64]:
        """Noisy counts of all bins, empty ones included."""
        counts = np.bincount(np.asarray(dataset, np.int64), minlength=self.bins)
        return counts + rng.laplace(scale=1 / self.epsilon, size=self.bins)


def tally(dataset: Ballots) -> NDArray[np.int64]:
    """Votes a candidate."""
    votes: NDArray[np.int64] = np.asarray(dataset, np.int64).sum(axis=0)
    return votes
