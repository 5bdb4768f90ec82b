"""The public numbers of a training of scores on Poisson samples."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Steps:
    """`rate` at which every row joins a step, `count` of steps, `batch` expected, by which sums are divided."""

    rate: float
    count: int
    batch: int

    def with_room(self, canaries: int) -> Steps:
        """The same rate and steps with the batch that so many more rows would fill, were all of them in."""
        return Steps(self.rate, self.count, max(1, round(self.batch + self.rate * canaries)))
