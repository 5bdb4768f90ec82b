"""What leaves the clients of one round, and its sum: clipped, noised or rounded as the protection asks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...audit.seeds import Seeds
from ...audit.types import FloatArray, IntArray
from .cohort import client_seeds, round_seeds
from .discrete_gaussian import discrete_gaussian
from .fixed_point import FixedPoint
from .layout import Flat
from .protection import Protection
from .secure_aggregation import Masked, SecureSum
from .server import Clipped, Floats, clip_updates, noise

HEADROOM = 20.0
"""Room on the integer grid for noise, in standard deviations of the noise of all who answer."""


@dataclass(slots=True)
class RoundSum:
    """The sum of one round as clients hand in their updates. `answered` is how many will.

    Without protection updates are summed as they are. Discrete noise is added on the grid of secure aggregation, and
    the integer sum is exact; with `masks` it really is the sum of masked vectors, unmasked.
    """

    number: int
    dimension: int
    protection: Protection | None
    clip: float
    seeds: Seeds
    answered: int
    masks: SecureSum | None = None
    within: float = 0.0
    rejected: int = 0
    _real: Floats = field(init=False)
    _units: NDArray[np.int64] = field(init=False)
    _masked: dict[str, Masked] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._real = np.zeros(self.dimension)
        self._units = np.zeros(self.dimension, np.int64)

    def add(self, names: Sequence[str], deltas: Flat, weights: IntArray | FloatArray | None = None) -> Floats:
        """Clip, noise and add the updates (clients, dimension) of these clients; what they sent, same shape."""
        private = self.protection
        law = "gaussian" if private is None else private.law
        clipped = clip_updates(deltas, None if private is None else self.clip, law=law)
        self._notice(names, clipped)
        if private is not None and private.discrete:
            sent = self._add_units(names, clipped.updates)
        else:
            sent = clipped.updates
            if private is not None and private.client:
                sent = sent + self._client_noise(names, private)
        # Each update counts once unless weights are asked for: a matrix product with ones is a plain sum.
        self._real += (np.ones(len(names)) if weights is None else weights) @ sent
        return sent

    def total(self, dropped: Sequence[str]) -> Floats:
        """The sum, before central noise; `dropped` were asked and did not answer."""
        if self.protection is None or not self.protection.discrete:
            return self._real
        units = self._units
        if self.masks is not None:
            units = self.masks.unmask_units(self._masked, dropped)
        return self._grid().decode(units)

    def _client_noise(self, names: Sequence[str], private: Protection) -> Floats:
        scale = private.client * self.clip
        streams = [client_seeds(self.seeds, self.number, name).at("client") for name in names]
        return np.stack([noise(self.dimension, scale, law=private.law, seeds=own) for own in streams])

    def _add_units(self, names: Sequence[str], updates: Floats) -> Floats:
        assert self.protection is not None
        grid = self._grid()
        units = grid.encode(updates)
        sigma = self.protection.client * grid.largest
        for slot, name in enumerate(names):
            own = client_seeds(self.seeds, self.number, name).at("discrete-noise").generator()
            units[slot] += discrete_gaussian(sigma, self.dimension, own)
            if self.masks is not None:
                self._masked[name] = self.masks.mask_units(name, units[slot])
        self._units += units.sum(axis=0)
        return grid.decode(units)

    def _grid(self) -> FixedPoint:
        assert self.protection is not None
        return grid_of(self.protection, self.clip, self.answered)

    def _notice(self, names: Sequence[str], clipped: Clipped) -> None:
        """Count b - 1/2 for the adaptive clip, and say aloud whose update was no number."""
        self.within += float(clipped.within.sum()) - len(names) / 2
        bad = int(clipped.rejected.sum())
        if bad:
            self.rejected += bad
            first = names[int(np.flatnonzero(clipped.rejected)[0])]
            warnings.warn(
                f"round {self.number}: {bad} client(s), {first!r} first, sent an update with NaN or infinity, which "
                "counts as zero: lower learning_rate, or look for records with huge values",
                stacklevel=5,
            )


def grid_of(protection: Protection, clip: float, clients: int) -> FixedPoint:
    """The integer grid of a round with so many clients."""
    spread = protection.client * (2 ** (protection.bits - 1) - 1)
    clients = max(clients, 1)
    return FixedPoint(clip, protection.bits, clients, math.ceil(HEADROOM * spread * math.sqrt(clients)))


def masks_of(
    names: Sequence[str], dimension: int, protection: Protection, clip: float, *, seeds: Seeds, round_number: int
) -> SecureSum:
    """Secure aggregation among the clients asked in a round; as many as `least_cohort` can unmask it."""
    grid = grid_of(protection, clip, len(names))
    return SecureSum(
        names,
        dimension,
        grid.clip,
        grid.bits,
        seeds=round_seeds(seeds, round_number).at("secure-sum"),
        threshold=max(2, protection.least_cohort),
        headroom=grid.headroom,
    )
