"""Who is exposed most: the worst slices of one attack's scores, and the risk of each record over many models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ConfigError, IncompatibleError
from .metrics import RecordRisk, record_risk, worst_slices
from .restaging import plays, usual_slices
from .seeds import Seeds
from .types import Attack, BoolArray, Evidence, Scores

LEAST_SHADOWS, MOST_PLAYERS = 8, 32
"""With fewer shadows a record is in too few players to say anything; more players cost time and add little."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """`slices` and `measures` go into a finding (no record is named); `risk` names records and stays with the owner.

    `reason` says why there is no `risk`.
    """

    slices: list[dict[str, Any]]
    measures: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    risk: RecordRisk | None = None
    reason: str | None = None


def exposure(
    attack: Attack,
    evidence: Evidence,
    scores: Scores,
    inside: BoolArray,
    *,
    seeds: Seeds,
    groups: tuple[str, ...] | None = None,
    confidence: float = 0.95,
    fpr: float = 0.01,
) -> Exposure:
    """Slices of `scores` against the truth `inside` (records,), and each record's risk when shadows play the target.

    `evidence` is what the attack was given, `groups` the records' groups if they have any. Costs one run of the attack
    a player, so only attacks that say they are `replayable` give more than slices, and of those only with 8 shadows or
    more and enough non-members for `fpr`.
    """
    slices = worst_slices(scores.values, inside, usual_slices(evidence, groups), confidence)
    if not getattr(attack, "replayable", False):
        return Exposure(slices, reason="playing this attack once for every shadow would take too long")
    if attack.needs.shadows < LEAST_SHADOWS:
        return Exposure(slices, reason=f"needs {LEAST_SHADOWS} shadows, the attack reads {attack.needs.shadows}")
    try:
        played = plays(attack, evidence, seeds=seeds, players=MOST_PLAYERS)
        risk = record_risk(played.scores, played.inside, played.records, fpr=fpr, confidence=confidence)
    except (ConfigError, IncompatibleError) as error:
        return Exposure(slices, reason=str(error))
    return Exposure(slices, risk.measures(), risk)


def write_risk(path: Path, risk: RecordRisk) -> None:
    """The risk of every record as parquet, riskiest first. It names records: not for sharing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    pq.write_table(pa.table(risk.columns()), temporary)
    temporary.replace(path)
