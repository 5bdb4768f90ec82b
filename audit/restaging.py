"""Each shadow model in the target's place: what an attack scores, and how risky each record is, over many models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import IncompatibleError
from .seeds import Seeds
from .types import Answers, Attack, BoolArray, Evidence


def opponents_of(player: int, inside: BoolArray) -> NDArray[np.int64]:
    """The other shadows, less any whose membership is the exact complement; `inside` bool (shadows, records).

    An attacker has no model trained on exactly what the target was not.
    """
    usable = (inside == inside[player]).any(axis=1)
    usable[player] = False
    return np.flatnonzero(usable)


def restaged(evidence: Evidence, player: int, others: NDArray[np.int64]) -> Evidence:
    """The same evidence with shadow `player` in the target's place and `others` as its shadows."""
    return replace(
        evidence,
        target=evidence.shadows[player],
        shadows=evidence.shadows[others],
        shadow_inside=evidence.shadow_inside[others],
        population_target=evidence.population_shadows[player],
        population_shadows=evidence.population_shadows[others],
        answers={name: _restaged_answers(answers, player, others) for name, answers in evidence.answers.items()},
    )


@dataclass(frozen=True, slots=True)
class Plays:
    """What an attack scored with each shadow as the target: `scores` and `inside`, (players, records)."""

    scores: NDArray[np.float64]
    inside: BoolArray
    records: tuple[str, ...]


def plays(attack: Attack, evidence: Evidence, *, seeds: Seeds, players: int | None = None) -> Plays:
    """Every shadow (or the first `players`) plays the target against the others but its complement.

    The attack is rebuilt for the smaller number of shadows where it takes one (`shadows` or `references`), so that
    every player meets the same number. `IncompatibleError` when none can play: all shadows but one are its complement.
    """
    read = attack.needs.shadows or len(evidence.shadows)
    inside = np.asarray(evidence.shadow_inside[:read], dtype=np.bool_)
    smaller = with_shadows(attack, read - 2)
    scores, truth = [], []
    for player in range(min(players or read, read)):
        others = opponents_of(player, inside)[: read - 2]
        if len(others) < smaller.needs.shadows or inside[player].all() or not inside[player].any():
            continue
        scores.append(smaller.score(restaged(evidence, player, others), seeds=seeds.at(player)).values)
        truth.append(inside[player])
    if not scores:
        raise IncompatibleError(
            f"attack {attack.name!r}: no shadow can play the target: train more, on different records"
        )
    return Plays(np.stack(scores), np.stack(truth), evidence.records)


def with_shadows(attack: Any, count: int) -> Any:
    """The attack set to read `count` shadow models; itself where it reads none."""
    if not attack.needs.shadows:
        return attack
    names = {field.name for field in fields(attack)}
    for key in ("shadows", "references"):
        if key in names:
            return replace(attack, **{key: count})
    raise IncompatibleError(f"attack {attack.name!r} has no parameter `shadows` or `references` to set")


def difficulty(evidence: Evidence, shadows: int | None = None) -> NDArray[np.float64]:
    """Mean loss of each record (records,) over shadows trained without it, in nats; NaN where every shadow saw it.

    Harder records are higher. The target is not read, so slices by difficulty do not depend on what is audited.
    """
    rows = np.arange(len(evidence.records))
    total, count = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    for j in range(len(evidence.shadows) if shadows is None else shadows):
        outside = ~np.asarray(evidence.shadow_inside[j], dtype=np.bool_)
        taken = np.asarray(np.asarray(evidence.shadows[j])[rows, evidence.labels], dtype=np.float64)
        total -= np.where(outside, taken, 0.0)
        count += outside
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def usual_slices(evidence: Evidence, groups: tuple[str, ...] | None = None) -> dict[str, BoolArray]:
    """Slices by class, by group where records have one, and by tenths of difficulty where there are shadows."""
    out = {f"class {label}": evidence.labels == label for label in np.unique(evidence.labels)}
    if groups is not None:
        names = np.asarray(groups)
        out |= {f"group {name}": names == name for name in np.unique(names)}
    if len(evidence.shadows):
        out |= dict(_by_difficulty(difficulty(evidence)))
    return out


def _by_difficulty(hardness: NDArray[np.float64]) -> Iterator[tuple[str, BoolArray]]:
    known = np.flatnonzero(~np.isnan(hardness))
    for tenth, part in enumerate(np.array_split(known[np.argsort(hardness[known], kind="stable")], 10)):
        chosen = np.zeros(len(hardness), dtype=np.bool_)
        chosen[part] = True
        yield f"difficulty {10 * tenth} to {10 * (tenth + 1)} %", chosen


def _restaged_answers(answers: Answers, player: int, others: NDArray[np.int64]) -> Answers:
    public = answers.population_target, answers.population_shadows
    if len(answers.population_shadows):
        public = answers.population_shadows[player], answers.population_shadows[others]
    return Answers(answers.shadows[player], answers.shadows[others], *public)
