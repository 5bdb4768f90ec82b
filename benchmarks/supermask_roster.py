"""The trainers of `bench supermask-table`: who shares weights, who shares a mask, and the settings they choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..attacks.canary.client import ClientCanary
from ..attacks.canary.gradient_audit import GradientCanaryAudit
from ..trainers.dpsgd import DpSgd
from ..trainers.federated.trainer import DpFederated, Federated
from ..trainers.sgd import Sgd
from ..trainers.supermask.federated import DpFederatedSupermask, FederatedSupermask
from ..trainers.supermask.private import DpSupermask
from ..trainers.supermask.trainer import Supermask

RECORDS, MEMBERS, HIDDEN = 1400, 700, (128,)
"""Records with coins, those that are in by expectation (public), and the hidden layer of every network."""
EPSILON, DELTA = 8.0, 1e-5
GRADIENTS = GradientCanaryAudit(canaries=1000)
CLIENTS = ClientCanary(canaries=1000, view="global-models")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table. `candidates` are settings by name, of which tuning seeds choose one; those of one `family`
    are chosen for equal accuracy. `against` names the entry that shares weights in the same way. `canaries` is the
    attack by the claim's own unit, for entries with a claim."""

    name: str
    family: str
    shares: str
    candidates: Mapping[str, Any]
    against: str | None = None
    canaries: GradientCanaryAudit | ClientCanary | None = None


def roster() -> list[Entry]:
    """All entries: trained in one place, by ten clients, and private."""
    return [*_central(), *_federated(), *_private()]


def _central() -> list[Entry]:
    common: dict[str, Any] = {"hidden": HIDDEN, "nominal_rows": MEMBERS}
    weights = {f"{e} epochs": Sgd(**common, epochs=e, batch_size=32, learning_rate=0.02) for e in (3, 5, 8, 12, 20)}

    def masks(epochs: tuple[int, ...], **more: Any) -> dict[str, Any]:
        return {f"{e} epochs": Supermask(**common, epochs=e, **more) for e in epochs}

    top = {"rule": "top-k", "learning_rate": 0.02}
    return [
        Entry("sgd", "central", "weights", weights),
        Entry("supermask", "central", "mask", masks((10, 20, 30)), "sgd"),
        Entry("supermask, entropy penalty", "central", "mask", masks((10, 20, 30), entropy_penalty=1.0), "sgd"),
        Entry("supermask, top-k", "central", "mask", masks((3, 6, 12), **top), "sgd"),
    ]


def _federated() -> list[Entry]:
    common: dict[str, Any] = {"hidden": HIDDEN, "clients": 10, "cohort": 10, "rounds": 15, "batch_size": 32}
    average = {
        f"rate {r:g}": Federated(model="mlp", **common, local_epochs=3, learning_rate=r) for r in (0.05, 0.1, 0.2, 0.3)
    }

    def masks(epochs: tuple[int, ...], **more: Any) -> dict[str, Any]:
        return {f"{e} local epochs": FederatedSupermask(**common, local_epochs=e, **more) for e in epochs}

    flips: dict[str, Any] = {"rule": "sign", "learning_rate": 0.02, "upload": "flips", "flip_budget": 4000}
    return [
        Entry("fedavg", "federated", "weights", average),
        Entry("federated mask, bits", "federated", "mask", masks((3, 6, 10)), "fedavg"),
        Entry("federated mask, scores", "federated", "mask", masks((1, 2, 4), upload="scores"), "fedavg"),
        Entry("federated mask, flips", "federated", "mask", masks((5, 8, 12), **flips), "fedavg"),
    ]


def _private() -> list[Entry]:
    records: dict[str, Any] = {
        "hidden": HIDDEN,
        "nominal_rows": MEMBERS,
        "batch_size": 128,
        "epsilon": EPSILON,
        "delta": DELTA,
    }
    clients: dict[str, Any] = {
        "hidden": HIDDEN,
        "clients": 100,
        "cohort": 50,
        "rounds": 15,
        "batch_size": 8,
        "local_epochs": 3,
        "epsilon": EPSILON,
        "delta": DELTA,
        "view": "global-models",
    }
    sign: dict[str, Any] = {"rule": "sign", "learning_rate": 0.02, "upload": "scores"}
    weights = {f"rate {r:g}": DpSgd(**records, epochs=15, learning_rate=r) for r in (0.25, 0.3, 0.35, 0.4, 0.5)}
    plain: dict[str, Any] = {"rule": "sign", "optimizer": "sgd", "learning_rate": 1.0}
    scores = {f"{e} epochs": DpSupermask(**records, **plain, epochs=e) for e in (8, 15)}
    rates = (0.04, 0.07, 0.1, 0.2, 0.3)
    average = {f"rate {r:g}": DpFederated(model="mlp", **clients, learning_rate=r) for r in rates}
    deltas = {f"server rate {r:g}": DpFederatedSupermask(**clients, **sign, server_learning_rate=r) for r in (3.0, 6.0)}
    return [
        Entry("dp-sgd", "records", "weights", weights, canaries=GRADIENTS),
        Entry("dp mask", "records", "mask", scores, "dp-sgd", canaries=GRADIENTS),
        Entry("dp-fedavg", "clients", "weights", average, canaries=CLIENTS),
        Entry("dp federated mask, scores", "clients", "mask", deltas, "dp-fedavg", canaries=CLIENTS),
    ]
