"""Real vectors as integers modulo 2^32: what secure aggregation sums exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.types import FloatArray, IntArray

MODULUS_BITS = 32
_LARGEST_SUM = 2 ** (MODULUS_BITS - 1) - 1


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Coordinates in [-clip, clip] as integers in [-L, L], L = 2^(bits - 1) - 1, whose sum over `clients` fits 32 bits.

    Rounding is toward zero: it never lengthens a vector, so a vector of L2 norm at most C has at most `scale` C in
    units of the grid, and the sensitivity of the integer sum is exactly that of the real one. `headroom` is how far
    noise may carry a coordinate of the sum beyond the clients' own range, in units.

    >>> grid = FixedPoint(clip=1.0, bits=16, clients=100)
    >>> grid.encode(np.array([0.5, -1.0])).tolist()
    [16383, -32767]
    """

    clip: float
    bits: int
    clients: int
    headroom: int = 0

    def __post_init__(self) -> None:
        if not (self.clip > 0 and math.isfinite(self.clip)):
            raise ConfigError(f"fixed point: clip must be a positive finite number, got {self.clip}")
        if self.clients < 1 or self.bits < 2 or self.headroom < 0:
            raise ConfigError(
                "fixed point: needs clients >= 1, bits >= 2 and headroom >= 0, "
                f"got {self.clients}, {self.bits}, {self.headroom}"
            )
        worst = self.clients * self.largest + self.headroom
        if worst > _LARGEST_SUM:
            raise ConfigError(
                f"fixed point: the sum of {self.clients} clients at {self.bits} bits with headroom {self.headroom} may "
                f"reach {worst}, but modulo 2^{MODULUS_BITS} holds +-{_LARGEST_SUM} only: {self._remedy()}"
            )

    @property
    def largest(self) -> int:
        """L, the integer that stands for `clip`."""
        return int(2 ** (self.bits - 1) - 1)

    @property
    def scale(self) -> float:
        """Units of the grid per 1.0."""
        return self.largest / self.clip

    def encode(self, vector: FloatArray) -> NDArray[np.int64]:
        """Reals (dimension,) to integers of the same shape, rounded toward zero.

        Raises `ConfigError` for NaN, infinity or a coordinate beyond `clip`, which must be clipped before.
        """
        values = np.asarray(vector, np.float64)
        if not np.isfinite(values).all():
            raise ConfigError(
                f"fixed point: {int((~np.isfinite(values)).sum())} of {values.size} coordinates are NaN or infinite"
            )
        beyond = float(np.abs(values).max(initial=0.0))
        # Relative slack: a vector clipped in single precision may exceed the norm in its last bits.
        if beyond > self.clip * (1 + 1e-6):
            raise ConfigError(f"fixed point: a coordinate is {beyond:g}, beyond clip {self.clip:g}: clip it first")
        return np.clip(np.trunc(values * self.scale), -self.largest, self.largest).astype(np.int64)

    def decode(self, units: IntArray) -> NDArray[np.float64]:
        """Integers back to reals."""
        return np.asarray(units, np.float64) / self.scale

    def wrap(self, units: IntArray) -> NDArray[np.uint32]:
        """Integers modulo 2^32; one client's, which may carry noise of at most `headroom` units.

        Raises `IncompatibleError` for a value that no client within the range could have.
        """
        worst = int(np.abs(units).max(initial=0))
        if worst > self.largest + self.headroom:
            raise IncompatibleError(
                f"fixed point: a client's coordinate is {worst} units, beyond {self.largest} and headroom "
                f"{self.headroom}: the sum could wrap round unseen; raise headroom or lower bits"
            )
        return (np.asarray(units, np.int64) & 0xFFFFFFFF).astype(np.uint32)

    def unwrap(self, total: NDArray[np.uint32]) -> NDArray[np.int64]:
        """A sum modulo 2^32 as signed integers.

        Raises `IncompatibleError` for a sum that the cohort cannot have reached without noise beyond `headroom`.
        """
        signed = total.astype(np.int64)
        signed = np.where(signed > _LARGEST_SUM, signed - 2**MODULUS_BITS, signed)
        worst = int(np.abs(signed).max(initial=0))
        if worst > self.clients * self.largest + self.headroom:
            raise IncompatibleError(
                f"secure sum: a coordinate is {worst} units, more than {self.clients} clients and headroom "
                f"{self.headroom} can reach: a mask is missing or a client sent a vector out of range"
            )
        return signed

    def _remedy(self) -> str:
        room = (_LARGEST_SUM - self.headroom) // self.clients
        if room < 1:
            return "fewer clients or less headroom is needed"
        return f"use at most {int(math.log2(room + 1)) + 1} bits, or fewer clients"
