"""What the server makes of a round's bits: a mean, a Beta posterior, or a vote; then scores again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from ..federated.rounds import Federation
from ..federated.sending import RoundSum
from ..federated.server import Floats

Merge = Literal["mean", "beta", "majority"]
MERGES: tuple[Merge, ...] = ("mean", "beta", "majority")


@dataclass(frozen=True, slots=True)
class BetaPosterior:
    """Beta(ones, zeros) of every weight's chance to be kept, after FedPM (Isik et al. 2023, arXiv 2209.15328,
    algorithm 1): each round adds its bits, and every `reset` rounds the counts start anew from `prior`."""

    ones: Floats
    zeros: Floats
    prior: float = 1.0

    def after(self, total: Floats, answered: float) -> BetaPosterior:
        """With `total` (d,) ones among `answered` bits a weight."""
        return BetaPosterior(self.ones + total, self.zeros + answered - total, self.prior)

    def mode(self) -> Floats:
        """(ones - 1) / (ones + zeros - 2), 1/2 where nothing was counted."""
        counted = self.ones + self.zeros - 2
        safe = np.where(counted > 0, counted, 1.0)
        return np.where(counted > 0, (self.ones - 1) / safe, 0.5)


@dataclass(slots=True)
class BitFederation(Federation):
    """A `Federation` whose clients send bits: the sum of a round becomes chances, clamped to [1/(2n), 1 - 1/(2n)] with
    n the expected cohort, and their logits are the next scores.

    `merge` "mean": the share of ones of the round; "beta": the posterior's mode, started anew every `reset` rounds;
    "majority": what more than half sent. With `clamp`, the clients' own, the share of ones is stretched back from
    [1/2 - clamp, 1/2 + clamp] first. Whoever answers is counted: bits are for trainings without noise on their sum.
    """

    merge: Merge = "beta"
    reset: int = 1
    clamp: float | None = None
    _answered: int = 0
    _posterior: BetaPosterior | None = None

    def round_sum(self, number: int, asked: NDArray[np.int64], answered: int) -> RoundSum:
        """As in `Federation`, and remember how many bits a weight get."""
        self._answered = answered
        return Federation.round_sum(self, number, asked, answered)

    def with_noise(self, number: int, total: Floats) -> Floats:
        """The step to the next scores, times the expected cohort by which the loop divides."""
        if not self._answered:
            return np.zeros_like(total)
        theta = self.chances(number, total)
        edge = 1 / (2 * max(self.schedule.expected_cohort, 1.0))
        scores = logit(np.clip(theta, edge, 1 - edge))
        step: Floats = (scores - self.state.weights) * self.schedule.expected_cohort
        return step

    def chances(self, number: int, total: Floats) -> Floats:
        """(d,) in [0, 1] from `total` ones among those who answered."""
        share = total / self._answered
        if self.clamp is not None:
            share = np.clip(0.5 + (share - 0.5) / (2 * self.clamp), 0.0, 1.0)
        if self.merge == "majority":
            return np.asarray(share > 0.5, np.float64)
        if self.merge == "mean":
            return share
        if self._posterior is None or number % self.reset == 0:
            self._posterior = BetaPosterior(np.ones(len(total)), np.ones(len(total)))
        self._posterior = self._posterior.after(share * self._answered, self._answered)
        return self._posterior.mode()
