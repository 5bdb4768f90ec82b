"""From a recorded transcript with canary clients to a verdict: `audit_transcript(folder, claim=...)`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .canaries import CanaryEvidence
from .errors import ConfigError, IncompatibleError
from .registry import ATTACKS
from .scores import ScoreAudit, audit_scores
from .seeds import Seeds
from .types import Access, Adjacency, Claim, Unit

RECORD, TRUTH, PROJECTIONS = "transcript.json", "canaries.json", "projections.npy"


@dataclass(frozen=True, slots=True)
class RecordedGame:
    """What a recorder left: `projections` float32 (rounds, canaries) in units of one clipped canary, and the truth."""

    projections: Any
    canaries: tuple[str, ...]
    inside: Any
    sample_rate: float
    adjacency: Adjacency

    @classmethod
    def read(cls, folder: Path) -> RecordedGame:
        """Raises `ConfigError` where there is no transcript, none with canaries, or no finished round."""
        if not (folder / RECORD).is_file():
            raise ConfigError(f"{folder}: no {RECORD}; give the folder that the recorder wrote to")
        if not (folder / TRUTH).is_file() or not (folder / PROJECTIONS).is_file():
            raise ConfigError(
                f"{folder}: the transcript has no canaries, so nothing in it can be certified: record again with "
                "Recorder(..., canaries=CanaryPlan(...))"
            )
        truth: Mapping[str, Any] = json.loads((folder / TRUTH).read_text(encoding="utf-8"))
        projections = np.load(folder / PROJECTIONS, mmap_mode="r", allow_pickle=False)
        if not len(projections):
            raise ConfigError(f"{folder}: no round was finished, nothing to audit")
        return cls(
            projections,
            tuple(truth["canaries"]),
            np.array(truth["inside"], bool),
            float(truth["sample_rate"]),
            Adjacency(truth["adjacency"]),
        )


def audit_transcript(
    folder: str | Path,
    *,
    claim: Claim | None = None,
    guesses: int | None = None,
    delta: float = 1e-5,
    noise_multiplier: float | None = None,
    confidence: float = 0.95,
    violation_confidence: float = 0.999,
) -> ScoreAudit:
    """Score the canary clients of a recorded training and bound epsilon by the one-run method at client level.

    The score is the client-canary statistic of every round's global model (`attacks.canary.client`), at the noise it
    measures itself; `noise_multiplier` only sets the scale of the least noise it believes in. `guesses` must be fixed
    before looking (default: two fifths of the canaries). The claim must be at client level and of the transcript's
    adjacency, or the audit cannot decide. A training that died is audited over its finished rounds: valid, and weaker.
    """
    game = RecordedGame.read(Path(folder))
    if claim is not None and claim.unit is not Unit.CLIENT:
        raise IncompatibleError(f"canary clients test a client-level claim, this one protects one {claim.unit}")
    attack = ATTACKS.load("client-canary")(canaries=len(game.canaries), view="global-models")
    evidence = CanaryEvidence(
        game.canaries,
        {"projections": game.projections},
        {"sample_rate": game.sample_rate, "noise_multiplier": noise_multiplier or 1.0},
        Access.TRANSCRIPT,
        Unit.CLIENT,
    )
    scores = attack.score_canaries(evidence, seeds=Seeds(0).at("transcript"))
    return audit_scores(
        scores.values,
        game.inside,
        design="coin",
        claim=claim,
        delta=delta,
        guesses=guesses,
        unit=Unit.CLIENT,
        adjacency=game.adjacency,
        confidence=confidence,
        violation_confidence=violation_confidence,
        records=game.canaries,
    )
