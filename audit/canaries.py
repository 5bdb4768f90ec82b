"""Canaries that the trainer itself inserts (gradients, clients): who inserts, who watches, who flips the coins.

The runner flips one fair coin a canary and hands it to the trainer only; the attack reads what the declared observer
saw, never the coins. Rows crafted by an attack (`crafts_records`) need none of this: they are ordinary records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from .seeds import Seeds
from .types import Access, BoolArray, Claim, Needs, Progress, Rows, Scores, Unit, silent


@dataclass(frozen=True, slots=True)
class CanarySet:
    """Canaries to insert: `kind` names how they are made, `inside` bool (canaries,) is each one's coin.

    `view` names what the observer sees of training (`updates`, `sum`, `global-models`, `final-model` for clients,
    `steps` for gradients); `parameters` are the kind's own settings.
    """

    kind: str
    inside: BoolArray
    unit: Unit
    view: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ids(self) -> tuple[str, ...]:
        """A stable id per canary."""
        return tuple(f"{self.kind}-{position}" for position in range(len(self.inside)))


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What one training run with canaries showed: numbers by name in `transcript` (such as `projections`, float32
    (rounds, canaries)), the `claim` that holds against this observer (None where nothing protects from it; its
    adjacency is that of the game the trainer played), and `public` facts an observer knows (sample rate, noise,
    steps)."""

    transcript: Mapping[str, Any]
    claim: Claim | None
    public: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CanaryEvidence:
    """What a canary attack may read: `Witnessed` without anything that tells the coins."""

    canaries: tuple[str, ...]
    transcript: Mapping[str, Any]
    public: Mapping[str, float]
    access: Access
    unit: Unit


@runtime_checkable
class CanaryHost(Protocol):
    """A trainer that can insert canaries of some kinds and show what an observer sees."""

    def hosts(self) -> tuple[str, ...]:
        """The kinds of canaries it inserts."""

    def planned_canary_claim(self, expected_rows: int, canaries: CanarySet) -> Claim | None:
        """The claim of a run with `canaries`, against their observer, from public sizes alone. Ignores the coins."""

    def fit_with_canaries(
        self,
        data: Rows,
        rows: BoolArray,
        canaries: CanarySet,
        *,
        seeds: Seeds,
        device: str,
        checkpoint: Path | None = None,
        progress: Progress = silent,
    ) -> Witnessed:
        """Train once on `data.take(rows)` and the canaries whose coin is true."""


@runtime_checkable
class CanaryAttack(Protocol):
    """An attack on canaries that the trainer inserts. A frozen dataclass; its constructor is its schema."""

    name: ClassVar[str]
    unit: ClassVar[Unit]
    canaries: int

    @property
    def needs(self) -> Needs:
        """The access it uses."""

    def canary_set(self, inside: BoolArray) -> CanarySet:
        """What the trainer is asked to insert; `inside` bool (canaries,)."""

    def score_canaries(self, evidence: CanaryEvidence, *, seeds: Seeds) -> Scores:
        """One score per canary, higher for more likely inside."""
