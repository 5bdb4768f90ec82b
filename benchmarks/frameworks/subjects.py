"""What is examined: aggregations of released packages, what each claims, and our own as controls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from ...audit.aggregation import SCENES, Aggregate, ClaimedRound
from ...audit.bounds.gaussian import gaussian_epsilon
from ...audit.checks.opacus_step import opacus_step
from ...audit.seeds import Seeds
from ...audit.types import Adjacency, Claim, FloatArray, Mechanism, Unit
from ...trainers.federated.server import Aggregation, clip_updates
from ...trainers.federated.server import aggregate as release

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy

CLIP, NOISE, DELTA = 1.0, 1.0, 1e-5
CLIENTS, DIMENSION = 10, 4


@dataclass(frozen=True, slots=True)
class Subject:
    """One aggregation, how to build it with and without noise, the claim, and the scenes to play with `runs` a side.

    `make(noise, seeds)` gives the aggregation; noise 0 is the unprotected twin. `expected` are the scenes in which this
    release is known to break its claim; a control has none. `note` says what is unusual in its settings.
    """

    name: str
    package: str
    claimed: ClaimedRound
    make: Callable[[float, Seeds], Aggregate]
    scenes: tuple[str, ...]
    runs: int
    expected: tuple[str, ...] = ()
    control: bool = False
    note: str = ""
    dimension: int = DIMENSION


def subjects() -> list[Subject]:
    """All of them: Flower, Opacus, and our own server as the control."""
    return [*flower_subjects(), *own_subjects()]


def flower_subjects() -> list[Subject]:
    """Flower's fixed and adaptive clipping, on the server and on clients.

    Read as kindly as can be: without an accountant Flower names no adjacency, so its claim is taken for zero-out, a
    public and fixed number of clients. `num_sampled_clients` is the true one throughout.
    """
    from flwr.clientapp.mod import adaptiveclipping_mod, fixedclipping_mod
    from flwr.serverapp.strategy import (
        DifferentialPrivacyClientSideAdaptiveClipping,
        DifferentialPrivacyClientSideFixedClipping,
        DifferentialPrivacyServerSideAdaptiveClipping,
        DifferentialPrivacyServerSideFixedClipping,
    )

    from .flower import flower_aggregate

    def server_fixed(noise: float, _: Seeds) -> Aggregate:
        return flower_aggregate(lambda s: DifferentialPrivacyServerSideFixedClipping(s, noise, CLIP, CLIENTS))

    def client_fixed(noise: float, _: Seeds) -> Aggregate:
        return flower_aggregate(
            lambda s: DifferentialPrivacyClientSideFixedClipping(s, noise, CLIP, CLIENTS), mods=[fixedclipping_mod]
        )

    def server_adaptive(noise: float, _: Seeds) -> Aggregate:
        return flower_aggregate(
            lambda s: DifferentialPrivacyServerSideAdaptiveClipping(s, noise, CLIENTS, **_ADAPTIVE), fresh=True
        )

    def client_adaptive(noise: float, _: Seeds) -> Aggregate:
        return flower_aggregate(
            lambda s: DifferentialPrivacyClientSideAdaptiveClipping(s, noise, CLIENTS, **_ADAPTIVE),
            mods=[adaptiveclipping_mod],
            fresh=True,
        )

    def accounted(noise: float, _: Seeds) -> Aggregate:
        def make(inner: Strategy) -> Strategy:
            accountant = flower_accountant(CLIENTS) if noise else None
            return DifferentialPrivacyServerSideFixedClipping(inner, noise, CLIP, CLIENTS - 1, accountant=accountant)

        return flower_aggregate(make, fresh=True, sampled=CLIENTS - 1)

    package = f"flwr {version('flwr')}"
    add_remove = ClaimedRound(CLIP, NOISE, flower_claim(NOISE, adjacency=Adjacency.ADD_REMOVE))
    claimed = ClaimedRound(CLIP, NOISE, flower_claim(NOISE))
    return [
        Subject("server-side fixed clipping", package, claimed, server_fixed, ("equal",), 2400, control=True),
        Subject("server-side fixed clipping", package, claimed, server_fixed, ("heavy",), 2400, ("heavy",)),
        Subject("client-side fixed clipping", package, claimed, client_fixed, ("heavy",), 2400, ("heavy",)),
        Subject(
            "server-side adaptive clipping",
            package,
            claimed,
            server_adaptive,
            ("loud",),
            2400,
            ("loud",),
            note=_LEARNING_RATE,
        ),
        Subject(
            "client-side adaptive clipping",
            package,
            claimed,
            client_adaptive,
            ("loud",),
            2400,
            ("loud",),
            note=_LEARNING_RATE,
        ),
        Subject("fixed clipping with accountant", package, add_remove, accounted, ("opposed",), 2400, ("opposed",)),
        *local_subjects(package),
    ]


def local_subjects(package: str) -> list[Subject]:
    """Flower's local DP: one client's own message, replaced by the opposite one.

    Its noise is Dwork and Roth's sensitivity sqrt(2 ln(1.25 / delta)) / epsilon (2014, theorem A.1), proved for epsilon
    below 1 only; the mod takes any epsilon.
    """
    from flwr.clientapp.mod import LocalDpMod

    from .flower import flower_aggregate

    def subject(epsilon: float, expected: tuple[str, ...]) -> Subject:
        def make(noise: float, _: Seeds) -> Aggregate:
            mod = LocalDpMod(CLIP, 2 * CLIP, epsilon if noise else 1e12, DELTA)
            return flower_aggregate(lambda s: s, mods=[mod])

        multiplier = math.sqrt(2 * math.log(1.25 / DELTA)) / epsilon
        claim = _claim(epsilon, multiplier, Adjacency.REPLACE_ONE, "flwr LocalDpMod", DELTA)
        name = f"LocalDpMod, epsilon {epsilon:g}"
        claimed = ClaimedRound(CLIP, multiplier, claim)
        return Subject(name, package, claimed, make, ("alone",), 2400, expected, control=not expected)

    return [subject(1.0, ()), subject(20.0, ("alone",))]


_ADAPTIVE = {"initial_clipping_norm": CLIP, "clip_norm_lr": 1.0, "clipped_count_stddev": 2.0}
_LEARNING_RATE = "clip_norm_lr 1; the default 0.2 has the same defect, smaller"


def own_subjects() -> list[Subject]:
    """Aggregations that are right: none may be flagged."""

    def opacus(noise: float, seeds: Seeds) -> Aggregate:
        # The optimizer wants a positive multiplier when it is made; the step's own switch turns the noise off.
        step = opacus_step(
            noise_multiplier=noise or NOISE,
            max_grad_norm=CLIP,
            expected_batch_size=CLIENTS,
            shapes=[(DIMENSION,)],
            seeds=seeds,
        )
        return lambda updates, _: step(np.array(updates), noise=noise > 0)

    def ours(noise: float, seeds: Seeds) -> Aggregate:
        rounds = iter(range(10**9))
        how = Aggregation(expected_cohort=CLIENTS, clip=CLIP, noise_multiplier=noise)

        def aggregate(updates: Sequence[FloatArray], _: Sequence[float]) -> FloatArray:
            total = clip_updates(np.array(updates), CLIP).updates.sum(axis=0)
            return release(total, how, seeds=seeds.at("round", next(rounds)))

        return aggregate

    claims = [gaussian_claim("exact Gaussian"), opacus_claim()]
    return [
        Subject(
            "federated server", "leakgauge", ClaimedRound(CLIP, NOISE, claims[0]), ours, SCENES, 2400, control=True
        ),
        Subject(
            "DPOptimizer over client updates",
            f"opacus {version('opacus')}",
            ClaimedRound(CLIP, NOISE, claims[1]),
            opacus,
            SCENES,
            2400,
            control=True,
        ),
    ]


@lru_cache
def flower_claim(noise: float, *, adjacency: Adjacency = Adjacency.ZERO_OUT, delta: float = DELTA) -> Claim:
    """What Flower's own accountant says of one release at client level."""
    from flwr.supercore.privacy_accounting import GaussianPrivacyEvent

    accountant = flower_accountant(CLIENTS)
    accountant.compose(GaussianPrivacyEvent(noise, CLIENTS, CLIENTS))
    return _claim(accountant.get_epsilon(delta), noise, adjacency, f"flwr {version('flwr')} RdpAccountant", delta)


def flower_accountant(population: int) -> Any:
    """Flower's accountant in the only configuration that its strategies accept."""
    from flwr.serverapp import NeighboringRelation, PrivacyConfig, RdpAccountant, SamplingMethod

    relation, sampling = NeighboringRelation.ADD_OR_REMOVE_ONE, SamplingMethod.NO_AMPLIFICATION
    return RdpAccountant(PrivacyConfig(DELTA, population, relation, sampling))


def opacus_claim() -> Claim:
    """What Opacus's RDP accountant says of one step of all clients."""
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.step(noise_multiplier=NOISE, sample_rate=1.0)
    epsilon = float(accountant.get_epsilon(DELTA))
    return _claim(epsilon, NOISE, Adjacency.ADD_REMOVE, f"opacus {version('opacus')} RDPAccountant", DELTA)


def gaussian_claim(accountant: str) -> Claim:
    """The exact epsilon of one Gaussian release."""
    return _claim(gaussian_epsilon(1 / NOISE, DELTA), NOISE, Adjacency.ADD_REMOVE, accountant, DELTA)


def _claim(epsilon: float, noise: float, adjacency: Adjacency, accountant: str, delta: float) -> Claim:
    mechanism = Mechanism("gaussian", (("noise_multiplier", noise),))
    return Claim(epsilon, delta, Unit.CLIENT, adjacency, mechanism, accountant)
