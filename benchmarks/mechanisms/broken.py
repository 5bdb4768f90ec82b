"""Mechanisms that break their promise, each by one well-known mistake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .correct import Ballots, Rows, tally


@dataclass(frozen=True, slots=True)
class LaplaceHalfScale:
    """Noise of scale 1 / (2 epsilon): sensitivity taken for half of what it is. Really 2 epsilon."""

    epsilon: float = 1.0

    def __call__(self, dataset: Rows, rng: np.random.Generator) -> float:
        """A count with too little noise."""
        return float(sum(dataset) + rng.laplace(scale=0.5 / self.epsilon))


@dataclass(frozen=True, slots=True)
class LaplaceFixedSeed:
    """The noise generator is created anew, with the same seed, for every release. Without any bound."""

    epsilon: float = 1.0

    def __call__(self, dataset: Rows, rng: np.random.Generator) -> float:  # noqa: ARG002
        """A count with the same "noise" every time."""
        return float(sum(dataset) + np.random.default_rng(0).laplace(scale=1 / self.epsilon))


@dataclass(frozen=True, slots=True)
class MeanPrivateSize:
    """The mean of rows in [0, 1] with noise of scale 1 / (epsilon n), as if n were public, under add-remove.

    The noise itself tells n; far out in the tail the likelihood ratio has no bound. Casacuberta et al. 2022
    (arXiv 2207.10635) list this among the mistakes of real libraries.
    """

    epsilon: float = 1.0

    def __call__(self, dataset: Rows, rng: np.random.Generator) -> float:
        """A noisy mean."""
        size = max(1, len(dataset))
        return float(sum(dataset) / size + rng.laplace(scale=1 / (self.epsilon * size)))


@dataclass(frozen=True, slots=True)
class HistogramOfPresentBins:
    """Noisy counts of the bins that occur, and no others: which bins occur is released exactly. Without any bound.

    Korolova et al. 2009 repair it by releasing only counts above a threshold, at the price of a delta.
    """

    epsilon: float = 1.0

    def __call__(self, dataset: Sequence[int], rng: np.random.Generator) -> dict[int, float]:
        """Bin to noisy count."""
        bins, counts = np.unique(np.asarray(dataset, np.int64), return_counts=True)
        noisy = counts + rng.laplace(scale=1 / self.epsilon, size=len(bins))
        return dict(zip(bins.tolist(), noisy.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class ExponentialWithoutHalf:
    """Weights exp(epsilon votes) where replacing a ballot moves votes both ways: near 2 epsilon for many candidates."""

    epsilon: float = 1.0

    def __call__(self, dataset: Ballots, rng: np.random.Generator) -> int:
        """The index of the chosen candidate."""
        votes = tally(dataset)
        return int(np.argmax(self.epsilon * votes + rng.gumbel(size=len(votes))))


@dataclass(frozen=True, slots=True)
class NoisyMaxWithValue:
    """Report-noisy-max that also releases the winning noisy count. epsilon / 2 a candidate, so without a useful bound.

    Ding et al. 2018 (StatDP, arXiv 1805.10277), incorrect noisy-max variants.
    """

    epsilon: float = 1.0

    def __call__(self, dataset: Ballots, rng: np.random.Generator) -> float:
        """The largest noisy count."""
        votes = tally(dataset)
        return float(np.max(votes + rng.laplace(scale=2 / self.epsilon, size=len(votes))))
