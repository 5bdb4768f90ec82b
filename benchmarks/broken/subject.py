"""What stands in the zoo: a trainer that can be inspected, probed and attacked, and the outcome of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from ...audit.accounting import require_comparable
from ...audit.bounds import ClopperPearson, ConfusionCounts, GuessCounts, OneRun
from ...audit.checks import CheckResult
from ...audit.errors import IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import Adjacency, Bound, Claim, Unit
from ...audit.verdict import refutation

CONFIDENCE, VIOLATION_CONFIDENCE = 0.95, 0.999

Kind = Literal["static", "probe", "dynamic"]
KINDS: tuple[Kind, ...] = ("static", "probe", "dynamic")


@dataclass(frozen=True, slots=True)
class Audited:
    """One dynamic audit: the claim it tests and the bounds at both confidences. `design` was fixed beforehand.

    `incomparable` says why the bound may not be held against the claim, where it may not. `real`: the trainer itself
    ran; else its law was simulated.
    """

    claim: Claim
    reported: Bound
    judged: Bound
    design: str
    real: bool
    incomparable: str | None = None

    @property
    def promised(self) -> float:
        """The claim at the tested delta."""
        return self.claim.epsilon_at(self.judged.delta)

    @property
    def violated(self) -> bool:
        """The bound at 0.999 refutes the claim."""
        return self.incomparable is None and refutation(self.claim, self.judged) == "guarantee"

    @property
    def claimed_wrongly(self) -> bool:
        """The bound at 0.95 lies above the claim: on a correct trainer, a false claim."""
        return self.incomparable is None and refutation(self.claim, self.reported) == "guarantee"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "claim": self.promised,
            "delta": self.judged.delta,
            "adjacency": str(self.claim.adjacency),
            "reported": self.reported.to_json(),
            "judged": self.judged.to_json(),
            "violated": self.violated,
            "design": self.design,
            "real": self.real,
            "incomparable": self.incomparable,
        }


class Subject(Protocol):
    """A trainer or aggregator, right or wrong, under all three kinds of check."""

    def static(self, *, seeds: Seeds) -> list[CheckResult]:
        """Run it once, small, and read the record off its objects."""

    def probe(self, *, seeds: Seeds) -> list[CheckResult]:
        """Sensitivity and noise of one step."""

    def dynamic(self, *, seeds: Seeds) -> Audited:
        """The audit, on the real thing."""

    def again(self, *, seeds: Seeds) -> Audited:
        """The audit by a simulation of the same law where that is cheaper: for many repeats of a correct trainer."""


@dataclass(frozen=True, slots=True)
class Broken:
    """One entry. `catch` is the kind of check that must catch it and `rule` the one that must object (`audit` for
    dynamic); whatever else objects is a bonus. `correct` names the trainer without the mistake, in `CORRECT`."""

    name: str
    title: str
    source: str
    breaks: str
    catch: Kind
    rule: str
    make: Callable[[], Subject]
    correct: str


def audited(
    claim: Claim,
    counts: GuessCounts | ConfusionCounts,
    *,
    delta: float,
    design: str,
    real: bool,
    adjacency: Adjacency,
    unit: Unit = Unit.RECORD,
) -> Audited:
    """Bounds at both confidences, one-run or Clopper-Pearson by the counts, held against `claim`.

    All games here fix sampling rate, steps and divisor publicly, so that zeroing a unit and removing it are the same
    experiment; where a game cannot speak about the claim's adjacency, the outcome says so.
    """
    method: Any = OneRun() if isinstance(counts, GuessCounts) else ClopperPearson()
    reported, judged = (method.certify(counts, delta=delta, confidence=c) for c in (CONFIDENCE, VIOLATION_CONFIDENCE))
    incomparable = None
    try:
        require_comparable(claim, adjacency=adjacency, unit=unit, independent_of_size=True)
    except IncompatibleError as error:
        incomparable = str(error)
    return Audited(claim, reported, judged, design, real, incomparable)


def generator_state(generator: np.random.Generator) -> str:
    """A digest of where the generator stands: the same twice means the same noise twice."""
    return hashlib.sha256(json.dumps(generator.bit_generator.state, default=str).encode()).hexdigest()[:16]
