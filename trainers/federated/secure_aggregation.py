"""Secure aggregation as a threat-model layer: the server sees masked vectors and learns their integer sum alone.

Pairwise masks, self masks and Shamir shares for dropouts after Bonawitz et al. (2017, CCS, eprint 2017/281, protocol
of section 6, honest-but-curious server); with `neighbours` each client deals with a few others only (Bell et al. 2020,
CCS, eprint 2020/704). All parties run in one process with keys derived from `Seeds`, and shares travel unencrypted:
it shows what a server would see and is NOT production cryptography. For that use Flower's SecAgg+.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import FloatArray, IntArray
from . import masks, shamir
from .fixed_point import FixedPoint

Masked = NDArray[np.uint32]


@dataclass(slots=True)
class _Party:
    """One client: its secrets, its neighbours' public keys by number, and the shares it holds for them."""

    number: int
    pair_secret: bytes
    self_secret: bytes
    public: bytes
    neighbours: tuple[int, ...]
    pair_shares: dict[int, int] = field(default_factory=dict)
    self_shares: dict[int, int] = field(default_factory=dict)


class SecureSum:
    """One round of secure aggregation over the named `clients`, all of whom have agreed on keys and shared them.

    `clip` bounds each coordinate and `bits` sets the grid (`FixedPoint`); `headroom` leaves room for integer noise.
    `threshold` of a client's neighbours (itself included) must stay for the round to be unmasked, by default more than
    two thirds. `neighbours` is an even number of others that each client exchanges masks with; None means all.

    Unmasking reveals keys, so one object serves one round, and a client masks one vector with it. Raises `ConfigError`
    where the integer sum of the cohort would not fit 32 bits.
    """

    def __init__(
        self,
        clients: Sequence[str],
        dimension: int,
        clip: float,
        bits: int,
        *,
        seeds: Seeds,
        threshold: int | None = None,
        neighbours: int | None = None,
        headroom: int = 0,
    ) -> None:
        if len(set(clients)) != len(clients) or len(clients) < 2:
            raise ConfigError(
                f"secure sum: needs at least 2 distinct clients, got {len(clients)} ({len(set(clients))} distinct): "
                "the sum of one client is its update"
            )
        if dimension < 1:
            raise ConfigError(f"secure sum: dimension must be at least 1, got {dimension}")
        self.clients = tuple(clients)
        self.dimension = dimension
        self.grid = FixedPoint(clip, bits, len(clients), headroom)
        graph = _graph(len(clients), neighbours, seeds.at("graph"))
        group = len(graph[0]) + 1
        self.threshold = 2 * group // 3 + 1 if threshold is None else threshold
        if not 1 < self.threshold <= group:
            raise ConfigError(
                f"secure sum: threshold must lie in 2..{group} (a client and its neighbours), got {self.threshold}"
            )
        self._number = {client: i for i, client in enumerate(self.clients)}
        self._parties = [_party(i, graph[i], seeds.at("client", c)) for i, c in enumerate(self.clients)]
        for party, client in zip(self._parties, self.clients, strict=True):
            self._share_out(party, seeds.at("shares", client))
        self._masked: set[int] = set()

    def mask(self, client: str, vector: FloatArray) -> Masked:
        """What the server sees of a vector (dimension,) of reals within `clip`: uint32 (dimension,), uniform alone."""
        return self.mask_units(client, self.grid.encode(self._checked(vector)))

    def mask_units(self, client: str, units: IntArray) -> Masked:
        """The same for integers on the grid, which may carry noise within `headroom`."""
        party = self._party(client)
        if party.number in self._masked:
            raise IncompatibleError(
                f"secure sum: client {client!r} has masked a vector in this round; two under one mask give away their "
                "difference: make a new SecureSum for the next round"
            )
        total = self.grid.wrap(self._checked(units))
        total = total + masks.mask(party.self_secret, self.dimension)
        for other in party.neighbours:
            key = masks.agree(party.pair_secret, self._parties[other].public)
            total = _signed(total, masks.mask(key, self.dimension), party.number < other)
        self._masked.add(party.number)
        return total

    def unmask(self, masked: Mapping[str, Masked], dropped: Iterable[str] = ()) -> NDArray[np.float64]:
        """The sum (dimension,) of the clients in `masked`, as reals. See `unmask_units`."""
        return self.grid.decode(self.unmask_units(masked, dropped))

    def unmask_units(self, masked: Mapping[str, Masked], dropped: Iterable[str] = ()) -> NDArray[np.int64]:
        """The exact integer sum of the clients in `masked`; `dropped` names all others, who sent nothing.

        The server uses public keys, the vectors and the survivors' shares only. Raises `IncompatibleError` where too
        few survive, and `ConfigError` unless every client is either in `masked` or in `dropped`.
        """
        gone = set(dropped)
        self._check_partition(set(masked), gone)
        alive = {self._number[c] for c in masked}
        total = np.zeros(self.dimension, np.uint32)
        for client, vector in masked.items():
            if vector.dtype != np.uint32 or vector.shape != (self.dimension,):
                raise IncompatibleError(
                    f"secure sum: client {client!r} sent {vector.dtype} {vector.shape}, expected uint32 "
                    f"({self.dimension},)"
                )
            total = total + vector - masks.mask(self._recover_self(self._number[client], alive), self.dimension)
        for client in gone:
            total = self._without_pair_masks(total, self._number[client], alive)
        return self.grid.unwrap(total)

    def _without_pair_masks(self, total: Masked, lost: int, alive: set[int]) -> Masked:
        """Take off the masks that survivors added for a client who never sent its own half."""
        survivors = [n for n in self._parties[lost].neighbours if n in alive]
        if not survivors:
            return total
        secret = self._recover_pair(lost, alive)
        for number in survivors:
            key = masks.agree(secret, self._parties[number].public)
            # The survivor added the mask with the sign of its place; the opposite sign removes it.
            total = _signed(total, masks.mask(key, self.dimension), number > lost)
        return total

    def _recover_self(self, number: int, alive: set[int]) -> bytes:
        shares = {h + 1: self._parties[h].self_shares[number] for h in self._holders(number) if h in alive}
        return self._combined(number, shares)

    def _recover_pair(self, number: int, alive: set[int]) -> bytes:
        shares = {h + 1: self._parties[h].pair_shares[number] for h in self._holders(number) if h in alive}
        return self._combined(number, shares)

    def _combined(self, number: int, shares: Mapping[int, int]) -> bytes:
        if len(shares) < self.threshold:
            raise IncompatibleError(
                f"secure sum: {len(shares)} of the clients that hold shares of {self.clients[number]!r} remain, "
                f"{self.threshold} are needed: the round cannot be unmasked; lower threshold or repeat the round"
            )
        return shamir.combine(shares, self.threshold).to_bytes(32, "big")

    def _share_out(self, party: _Party, seeds: Seeds) -> None:
        """Every holder gets a share of both secrets; an honest one later gives out one of the two, never both."""
        holders = [h + 1 for h in self._holders(party.number)]
        for secret, name in ((party.pair_secret, "pair"), (party.self_secret, "self")):
            generator = seeds.at(name).generator()
            shares = shamir.split(int.from_bytes(secret, "big"), holders, self.threshold, generator=generator)
            for holder, share in shares.items():
                kept = self._parties[holder - 1]
                (kept.pair_shares if name == "pair" else kept.self_shares)[party.number] = share

    def _holders(self, number: int) -> tuple[int, ...]:
        return (number, *self._parties[number].neighbours)

    def _party(self, client: str) -> _Party:
        if client not in self._number:
            raise ConfigError(f"secure sum: {client!r} is none of the {len(self.clients)} clients of this round")
        return self._parties[self._number[client]]

    def _checked(self, vector: NDArray[Any]) -> NDArray[Any]:
        if np.shape(vector) != (self.dimension,):
            raise IncompatibleError(f"secure sum: a vector of shape {np.shape(vector)}, expected ({self.dimension},)")
        return np.asarray(vector)

    def _check_partition(self, sent: set[str], gone: set[str]) -> None:
        unknown = (sent | gone) - set(self.clients)
        missing = set(self.clients) - sent - gone
        if unknown or missing or sent & gone or not sent:
            raise ConfigError(
                f"secure sum: each of the {len(self.clients)} clients must either have sent a vector or be named as "
                f"dropped; unknown {sorted(unknown)}, unaccounted {sorted(missing)}, both {sorted(sent & gone)}"
            )


def _party(number: int, neighbours: tuple[int, ...], seeds: Seeds) -> _Party:
    pair_secret = masks.secret_bytes(seeds.at("pair"))
    return _Party(number, pair_secret, masks.secret_bytes(seeds.at("self")), masks.public_key(pair_secret), neighbours)


def _signed(total: Masked, pad: Masked, plus: bool) -> Masked:
    """Plus or minus a pad, modulo 2^32: uint32 arithmetic wraps round."""
    return total + pad if plus else total - pad


def _graph(clients: int, neighbours: int | None, seeds: Seeds) -> list[tuple[int, ...]]:
    """For each client the numbers of those it exchanges masks with: everybody, or a random ring's k nearest."""
    if neighbours is None or neighbours >= clients - 1:
        return [tuple(j for j in range(clients) if j != i) for i in range(clients)]
    if neighbours < 2 or neighbours % 2:
        raise ConfigError(f"secure sum: neighbours must be an even number >= 2, got {neighbours}")
    ring = seeds.generator().permutation(clients)
    place = np.argsort(ring)
    steps = [s for s in range(-(neighbours // 2), neighbours // 2 + 1) if s]
    return [tuple(sorted(int(ring[(place[i] + s) % clients]) for s in steps)) for i in range(clients)]
