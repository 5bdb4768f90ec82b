"""The rows of each training step: shuffled batches of equal size, or Poisson sampling; streams, in any portions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..audit.seeds import Seeds

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches of consecutive steps, end to end: positions (sum of `sizes`), `sizes` (steps)."""

    positions: Positions
    sizes: Positions

    def each(self) -> list[Positions]:
        """One array of positions per step."""
        return np.split(self.positions, np.cumsum(self.sizes)[:-1]) if len(self.sizes) else []


class BatchStream(Protocol):
    """An endless sequence of batches. How many steps are taken at a time does not change it."""

    def take(self, steps: int) -> Batches:
        """The batches of the next `steps` steps."""


@dataclass(slots=True)
class ShuffledStream:
    """Random permutations of `rows`, one after another, cut every `batch_size` rows: every step has the same size, and
    a batch may straddle two epochs."""

    rows: Positions
    batch_size: int
    generator: np.random.Generator
    _left: Positions = field(default_factory=lambda: np.empty(0, np.int64))

    def take(self, steps: int) -> Batches:
        """As in `BatchStream`."""
        wanted = steps * self.batch_size
        parts, held = [self._left], len(self._left)
        while held < wanted:
            parts.append(self.generator.permutation(self.rows))
            held += len(self.rows)
        flat = np.concatenate(parts)
        self._left = flat[wanted:]
        return Batches(flat[:wanted], np.full(steps, self.batch_size, np.int64))


@dataclass(slots=True)
class PoissonStream:
    """Every row joins every step by its own coin of probability `sample_rate`, independently of everything else.

    The coins of all (step, row) cells, row after row and step after step, are one Bernoulli process, so the distances
    between its successes are independent geometric variables: drawing those costs one draw per sampled row instead of
    one per row, and gives the same law exactly. Batches may be empty.
    """

    rows: Positions
    sample_rate: float
    generator: np.random.Generator
    _next_cell: int = 0
    _cells: Positions = field(default_factory=lambda: np.empty(0, np.int64))
    _last: int = -1

    def take(self, steps: int) -> Batches:
        """As in `BatchStream`."""
        n, first = len(self.rows), self._next_cell
        end = first + steps * n
        if n == 0:
            return Batches(np.empty(0, np.int64), np.zeros(steps, np.int64))
        parts = [self._cells]
        while self._last < end:
            gaps = self.generator.geometric(self.sample_rate, int((end - self._last) * self.sample_rate) + 16)
            parts.append(self._last + np.cumsum(gaps))
            self._last = int(parts[-1][-1])
        cells = np.concatenate(parts)
        inside = int(np.searchsorted(cells, end))
        self._cells, self._next_cell = cells[inside:], end
        step, row = np.divmod(cells[:inside] - first, n)
        return Batches(self.rows[row], np.bincount(step, minlength=steps).astype(np.int64))


def batch_stream(
    rows: Positions, *, sampling: str, batch_size: int, sample_rate: float, seeds: Seeds
) -> ShuffledStream | PoissonStream:
    """The stream over `rows` (positions) that `sampling` ("shuffle" or "poisson") names, from `seeds.at("batches")`."""
    generator = seeds.at("batches").generator()
    if sampling == "poisson":
        return PoissonStream(rows, sample_rate, generator)
    return ShuffledStream(rows, batch_size, generator)


def skip(stream: BatchStream, steps: int) -> None:
    """Move `stream` on by `steps`, in portions of bounded size: streams are cheap to redraw, so none is ever stored."""
    for start in range(0, steps, 256):
        stream.take(min(256, steps - start))
