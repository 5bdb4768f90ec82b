"""How far a record lies from the model's decision boundary, from predicted labels alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ....audit.errors import ConfigError, IncompatibleError
from ....audit.seeds import Seeds
from ....audit.types import Access, BoolArray, Rows, Trained
from ...parameters import require_integer

BISECTIONS = 12
"""Halvings of a segment: its crossing is then known to 1 / 4096 of its length."""
STEPS = 6
"""Step lengths tried a round, each half of the one before."""
NUMBERS = 1 << 22
"""float32 numbers of trial points held at a time (16 MB)."""


@dataclass(frozen=True, slots=True)
class BoundaryDistance:
    """Euclidean distance to the nearest point found where the model's answer changes between right and wrong.

    Positive where the label of the record is predicted, negative where it is not. Found by HopSkipJump (Chen, Jordan,
    Wainwright 2020, arXiv 1904.02144) started from the nearest other record with the opposite answer and
    run for all records at once; as a membership signal by Choquette-Choo et al. 2021 (arXiv 2007.14321)
    and Li and Zhang 2021 (arXiv 2007.15528). Trial points stay within the range of every column of the records asked.

    `budget` is the exact number of label queries a record, `rounds` those of gradient estimation; with 0 rounds only
    the segment to the nearest other record is bisected.
    """

    name: ClassVar[str] = "boundary-distance"
    version: ClassVar[str] = "1"
    access: ClassVar[Access] = Access.LABELS

    budget: int = 200
    rounds: int = 3

    def __post_init__(self) -> None:
        require_integer(self.name, "rounds", self.rounds, least=0)
        require_integer(self.name, "budget", self.budget, least=1)
        least = self._spent_without_samples() + 4 * self.rounds
        if self.budget < least:
            raise ConfigError(
                f"query {self.name!r}: budget {self.budget} is too small for {self.rounds} rounds, which need at least "
                f"{least}: lower rounds or raise budget"
            )

    def ask(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:  # noqa: ARG002
        """float32 (records,), in the unit of the features. A record whose answer changes nowhere that was tried lies
        as far as the farthest record. `IncompatibleError` for tokens."""
        if not np.issubdtype(rows.features.dtype, np.floating):
            raise IncompatibleError(f"query {self.name!r} needs numbers, got {rows.features.dtype} features (tokens)")
        search = _Search(trained.target.log_probabilities, rows)
        out = np.empty(len(rows), dtype=np.float64)
        samples = self._samples()
        # A chunk holds its trial points, and its distances to all records.
        step = max(1, NUMBERS // max(max(samples, STEPS) * search.points.shape[1], len(rows)))
        for number, start in enumerate(range(0, len(rows), step)):
            chunk = np.arange(start, min(start + step, len(rows)))
            out[chunk] = self._chunk(search, chunk, samples, seeds.at("chunk", number).generator())
        return np.where(search.right, out, -out).astype(np.float32)

    def _chunk(
        self, search: _Search, chunk: NDArray[np.intp], samples: int, generator: np.random.Generator
    ) -> NDArray[np.float64]:
        origin = search.points[chunk]
        there, found, farthest = search.nearest_opposite(chunk)
        there = search.bisect(chunk, origin, there)
        least = _length(there - origin)
        for turn in range(1, self.rounds + 1):
            there = search.hop(chunk, there, turn, samples, generator)
            there = search.bisect(chunk, origin, there)
            least = np.minimum(least, _length(there - origin))
        return np.where(found, least, farthest)

    def _samples(self) -> int:
        """Points a round with which the direction of the boundary is estimated."""
        return (self.budget - self._spent_without_samples()) // self.rounds if self.rounds else 1

    def _spent_without_samples(self) -> int:
        # One for the record itself, then bisections and step lengths.
        return 1 + BISECTIONS + self.rounds * (STEPS + BISECTIONS)


class _Search:
    """The records as flat points (records, columns), where the model is right about them, and moves in their space."""

    def __init__(self, answer: Callable[[NDArray[Any]], NDArray[np.float32]], rows: Rows) -> None:
        self.answer, self.labels, self.shape = answer, rows.labels, rows.features.shape[1:]
        self.points = np.ascontiguousarray(rows.features.reshape(len(rows), -1), dtype=np.float32)
        self.low, self.high = self.points.min(axis=0), self.points.max(axis=0)
        self.predicted = answer(rows.features).argmax(axis=1)
        self.right = np.asarray(self.predicted == rows.labels)

    def crossed(self, points: NDArray[np.float32], owners: NDArray[np.intp]) -> BoolArray:
        """Whether the answer at `points` (owners, trials, columns) is the opposite of that at the record itself."""
        predicted = self.answer(points.reshape(-1, *self.shape)).argmax(axis=1).reshape(points.shape[:2])
        return np.asarray((predicted == self.labels[owners, None]) != self.right[owners, None])

    def nearest_opposite(self, chunk: NDArray[np.intp]) -> tuple[NDArray[np.float32], BoolArray, NDArray[np.float64]]:
        """The nearest record at which the model's answer about `chunk`'s labels is the opposite, whether there is one,
        and the distance to the farthest record. Costs no query: the answers at all records are known."""
        points = self.points
        squares = np.square(points, dtype=np.float64).sum(axis=1)
        distance = squares[chunk, None] + squares - 2.0 * (points[chunk] @ points.T)
        farthest = np.sqrt(np.maximum(distance.max(axis=1), 0.0))
        opposite = (self.predicted == self.labels[chunk, None]) != self.right[chunk, None]
        distance[~opposite] = np.inf
        nearest = distance.argmin(axis=1)
        found = opposite.any(axis=1)
        return np.where(found[:, None], points[nearest], points[chunk]), found, farthest

    def bisect(
        self, chunk: NDArray[np.intp], origin: NDArray[np.float32], there: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The point nearest to `origin` on the way to `there` (both (chunk, columns)) known to lie across."""
        near, far = np.zeros(len(chunk)), np.ones(len(chunk))
        for _ in range(BISECTIONS):
            middle = (near + far) / 2
            across = self.crossed(_between(origin, there, middle)[:, None], chunk)[:, 0]
            far, near = np.where(across, middle, far), np.where(across, near, middle)
        return _between(origin, there, far)

    def hop(
        self,
        chunk: NDArray[np.intp],
        there: NDArray[np.float32],
        turn: int,
        samples: int,
        generator: np.random.Generator,
    ) -> NDArray[np.float32]:
        """One step along the estimated normal of the boundary, as long as it stays across; `there` where none does."""
        origin = self.points[chunk]
        distance = _length(there - origin)
        columns = there.shape[1]
        # As in HopSkipJump: the radius shrinks with the dimension, the step with the round.
        radius = (distance / np.sqrt(columns)).astype(np.float32)[:, None, None]
        normals = generator.standard_normal((len(chunk), samples, columns), dtype=np.float32)
        normals /= np.sqrt(np.square(normals).sum(axis=2, keepdims=True))
        trial = np.clip(there[:, None] + radius * normals, self.low, self.high)
        sign = np.where(self.crossed(trial, chunk), 1.0, -1.0).astype(np.float32)
        # Subtracting the mean lowers the variance off the boundary; all alike leaves the plain mean.
        alike = np.abs(sign.mean(axis=1, keepdims=True)) == 1
        weight = np.where(alike, sign, sign - sign.mean(axis=1, keepdims=True))
        direction = np.einsum("rs,rsc->rc", weight, trial - there[:, None])
        direction /= np.maximum(_length(direction), 1e-12)[:, None].astype(np.float32)
        lengths = (distance / np.sqrt(turn))[:, None] * 0.5 ** np.arange(STEPS)
        steps = lengths.astype(np.float32)[..., None] * direction[:, None]
        trial = np.clip(there[:, None] + steps, self.low, self.high)
        across = self.crossed(trial, chunk)
        first, some = across.argmax(axis=1), np.any(across, axis=1)
        return np.where(some[:, None], trial[np.arange(len(chunk)), first], there)


def _between(
    origin: NDArray[np.float32], there: NDArray[np.float32], share: NDArray[np.float64]
) -> NDArray[np.float32]:
    return origin + share.astype(np.float32)[:, None] * (there - origin)


def _length(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=-1)))
