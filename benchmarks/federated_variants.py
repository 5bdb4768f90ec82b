"""DP-FedAvg servers with one part replaced, for the audit to catch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..audit.types import FloatArray, IntArray
from ..trainers.federated.layout import Flat
from ..trainers.federated.rounds import Federation
from ..trainers.federated.sending import RoundSum
from ..trainers.federated.server import Floats

HEAVY = 10.0
"""Examples of a canary client over those of an average one."""


class ByExamples(RoundSum):
    """Updates weigh by their number of examples over the average, while sensitivity is taken to be one clip: as in
    Flower 1.41.0, whose noise is for an unweighted mean of a weighted one."""

    def add(self, names: Sequence[str], deltas: Flat, weights: IntArray | FloatArray | None = None) -> Floats:
        """As in `RoundSum`."""
        del weights
        heavy = np.array([HEAVY if name.startswith("canary-") else 1.0 for name in names])
        return super().add(names, deltas, heavy)


class WeightedMean(Federation):
    """The weighted-mean bug."""

    def round_sum(self, number: int, asked: NDArray[np.int64], answered: int) -> RoundSum:  # noqa: ARG002
        """As in `Federation`."""
        return ByExamples(number, len(self.state.weights), self.protection, self.clip, self.seeds, answered)


class NoClientClip(Federation):
    """Updates of any size, under noise for clipped ones."""

    def round_sum(self, number: int, asked: NDArray[np.int64], answered: int) -> RoundSum:  # noqa: ARG002
        """As in `Federation`."""
        return RoundSum(number, len(self.state.weights), self.protection, 1e30, self.seeds, answered)


class WrongDivisor(Federation):
    """Noise for a mean over all nominal clients, on a mean over the expected cohort: too small by the sampling rate."""

    def with_noise(self, number: int, total: Floats) -> Floats:
        """As in `Federation`."""
        noisy = super().with_noise(number, total)
        return total + (noisy - total) * self.schedule.sample_rate


class HalfNoise(Federation):
    """Half the noise that is claimed."""

    def with_noise(self, number: int, total: Floats) -> Floats:
        """As in `Federation`."""
        return total + (super().with_noise(number, total) - total) / 2
