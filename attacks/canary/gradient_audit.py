"""Gradient canaries in an audit file: the trainer inserts them, the observer sees every released gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ...audit.canaries import CanaryEvidence, CanarySet
from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import Access, BoolArray, Needs, Scores, Unit
from ..parameters import require_integer, require_number
from .gradient import STATISTICS, GradientCanary


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientCanaryAudit:
    """One run with `canaries` known gradients of `strength` times the clipping norm, each inserted by its own coin.

    The strongest one-run audit there is: it sees what the mechanism releases, not what a model makes of it (Steinke,
    Nasr and Jagielski 2023, arXiv 2305.08846; statistics in `attacks.canary.gradient`, derivation in docs/whitebox.md).
    `kind`: "dirac", one coordinate a canary; "random", directions in `dimension` coordinates. Sampling rate, steps and
    noise are the trainer's; rows and batch grow to make public room for the canaries.
    """

    name: ClassVar[str] = "gradient-canary"
    unit: ClassVar[Unit] = Unit.RECORD

    canaries: int = 1000
    kind: Literal["dirac", "random"] = "dirac"
    dimension: int | None = None
    strength: float = 10.0
    statistic: str = "llr-measured"

    def __post_init__(self) -> None:
        require_integer(self.name, "canaries", self.canaries, least=10)
        require_number(self.name, "strength", self.strength, low=1.0)
        if self.statistic not in STATISTICS:
            raise ConfigError(f"attack {self.name!r}: statistic must be one of {', '.join(STATISTICS)}")

    @property
    def needs(self) -> Needs:
        """Every released gradient."""
        return Needs(access=Access.TRANSCRIPT)

    def canary_set(self, inside: BoolArray) -> CanarySet:
        """As in `CanaryAttack`."""
        parameters: dict[str, object] = {"strength": self.strength}
        if self.dimension is not None:
            parameters["dimension"] = self.dimension
        return CanarySet(f"gradient-{self.kind}", inside, self.unit, "steps", parameters)

    def score_canaries(self, evidence: CanaryEvidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """The statistic of every canary's projections over all steps; higher for more likely inside."""
        projections = np.asarray(evidence.transcript["projections"])
        noise = float(evidence.public["noise_multiplier"])
        # Without noise every statistic orders alike, and a likelihood ratio divides by zero.
        statistic = self.statistic if noise > 0 else "sum"
        reader = GradientCanary(
            sample_rate=float(evidence.public["sample_rate"]), noise_multiplier=noise or 1.0, statistic=statistic
        )
        return reader.score(projections, evidence.canaries)

    def threat(self) -> Mapping[str, str]:
        """What the observer holds, in words."""
        return {
            "sees": "the clipped, noised and divided gradient of every step",
            "knows": "the gradient of every canary, the sampling rate, the noise and the model",
        }
