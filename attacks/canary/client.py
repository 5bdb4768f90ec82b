"""Canary clients: whole clients that send a known direction, inserted by fair coins, recognised in what an observer of
federated training sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.canaries import CanaryEvidence, CanarySet
from ...audit.errors import ConfigError, IncompatibleError
from ...audit.registry import nearest
from ...audit.seeds import Seeds
from ...audit.types import Access, BoolArray, Needs, Scores, Unit
from .gradient import GradientCanary

Kind = Literal["client-random", "client-orthogonal", "client-crafted"]
View = Literal["updates", "sum", "global-models", "final-model"]
KINDS, VIEWS = (
    ("client-random", "client-orthogonal", "client-crafted"),
    ("updates", "sum", "global-models", "final-model"),
)
_OBSERVERS = {
    "updates": "an honest-but-curious server that sees every client's update as it arrives",
    "sum": "a server that sees who takes part and the secure sum of their updates",
    "global-models": "a client that sees every global model, and not who takes part",
    "final-model": "an outsider with the first and the last global model",
}
STATISTICS = ("llr-measured", "llr", "sum", "max", "final")


@dataclass(frozen=True, slots=True)
class ClientCanary:
    """`canaries` clients with directions of `kind`, each of `strength` times the clip, watched by the observer `view`.

    `statistic` turns a canary's projections, round by round, into its score: as for gradient canaries, or "final",
    what is left of it in the last model. A server (`view` "updates" or "sum") knows when each canary took part, so its
    statistic is the sum over those rounds, which is the likelihood ratio's order; others weigh the public rate.
    """

    name: ClassVar[str] = "client-canary"
    version: ClassVar[str] = "1"
    unit: ClassVar[Unit] = Unit.CLIENT

    canaries: int = 1000
    kind: Kind = "client-orthogonal"
    view: View = "global-models"
    statistic: str = "llr-measured"
    strength: float = 10.0

    def __post_init__(self) -> None:
        if self.canaries < 1:
            raise ConfigError(f"attack 'client-canary': canaries must be at least 1, got {self.canaries}")
        for key, known in (("kind", KINDS), ("view", VIEWS), ("statistic", STATISTICS)):
            value = getattr(self, key)
            if value not in known:
                raise ConfigError(f"attack 'client-canary': unknown {key} {value!r}{nearest(value, [*known])}")
        if self.statistic == "final" and self.view != "final-model":
            raise ConfigError(
                f"attack 'client-canary': statistic 'final' reads the last model only, but view is {self.view!r}: use "
                "view 'final-model' or another statistic"
            )
        if not self.strength >= 1:
            raise ConfigError(f"attack 'client-canary': strength must be at least 1, got {self.strength}")

    @property
    def needs(self) -> Needs:
        """The last model's weights, or everything that the rounds show."""
        return Needs(access=Access.WEIGHTS if self.view == "final-model" else Access.TRANSCRIPT)

    def threat(self) -> dict[str, str]:
        """The observer in words, for the report."""
        return {
            "attacker": _OBSERVERS[self.view],
            "knows": "sampling rate, rounds, noise and every canary's direction; everything but the coins",
            "canaries": f"{self.canaries} clients that send {self.strength:g} clips along a direction of their own",
            "not tested": "homomorphic encryption, clients that collude, the cryptography of secure aggregation",
        }

    def canary_set(self, inside: BoolArray) -> CanarySet:
        """As in `CanaryAttack`."""
        return CanarySet(self.kind, inside, self.unit, self.view, {"strength": self.strength})

    def score_canaries(self, evidence: CanaryEvidence, *, seeds: Seeds) -> Scores:
        """As in `CanaryAttack`. Raises `IncompatibleError` without projections of every canary."""
        del seeds
        projections = evidence.transcript.get("projections")
        count = len(evidence.canaries)
        if projections is None or projections.ndim != 2 or projections.shape[1] != count:
            shape = None if projections is None else projections.shape
            raise IncompatibleError(f"client-canary: projections have shape {shape}, expected (rounds, {count})")
        if len(projections) == 1:
            return Scores(np.asarray(projections[0], np.float64), evidence.canaries)
        seen = evidence.transcript.get("participating")
        if seen is not None and self.statistic != "max":
            return Scores(_in_own_rounds(projections, seen), evidence.canaries)
        # Without protection no noise is promised; any small one orders the canaries.
        noise = evidence.public.get("noise_multiplier") or 1.0
        rule = GradientCanary(evidence.public["sample_rate"], noise, self.statistic)
        return rule.score(projections, evidence.canaries)


def _in_own_rounds(projections: NDArray[np.float32], participating: BoolArray) -> NDArray[np.float64]:
    """ln of in against out, up to a factor, where it is known when a canary takes part: sum of x - 1/2 over those
    rounds, read one round at a time; (canaries,)."""
    total = np.zeros(projections.shape[1])
    for row, here in zip(projections, participating, strict=True):
        total += np.where(here, np.asarray(row, np.float64) - 0.5, 0.0)
    return total
