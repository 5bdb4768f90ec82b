"""One attack on one model: evidence in, score out, guesses counted, bounds certified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bounds.counts import GuessCounts, GuessSequence
from .config import AttackSection
from .design import CoinTrials
from .errors import ConfigError, IncompatibleError
from .registry import BOUNDS
from .seeds import Seeds
from .types import Access, Answers, Attack, BoolArray, Bound, Evidence, Mechanism, Rows, Scores, Selection


@dataclass(frozen=True, slots=True)
class JudgedBy:
    """How the scores of one attack are judged, all of it fixed before training."""

    attack: str
    guesses: int
    alpha_share: float
    delta: float
    method: str
    confidence: float
    violation_confidence: float


@dataclass(frozen=True, slots=True)
class Certified:
    """The same counts bounded twice: as reported, and at the confidence a verdict needs."""

    reported: Bound
    judged: Bound


def default_guesses(canaries: int) -> int:
    """Guesses when the file does not say: two fifths of the canaries, a number that no truth has touched."""
    return max(1, round(0.4 * canaries))


def gather(
    records: slice,
    universe: Rows,
    population: Rows,
    target: NDArray[np.float32],
    shadows: NDArray[np.float32],
    shadow_inside: BoolArray,
    access: Access,
    *,
    answers: Mapping[str, Answers] | None = None,
    with_features: bool = False,
) -> Evidence:
    """The evidence on `records`: answers are (models, universe + population, classes); no truth about the target.

    The records themselves are included only for attacks that declare to read them.
    """
    total = len(universe)
    return Evidence(
        labels=universe.labels[records],
        records=universe.records[records],
        target=target[:total][records],
        shadows=shadows[:, :total][:, records],
        shadow_inside=shadow_inside[:, records],
        population_labels=population.labels,
        population_target=target[total:],
        population_shadows=shadows[:, total:],
        access=access,
        answers=answers or {},
        features=universe.features[records] if with_features else None,
        population_features=population.features if with_features else None,
    )


def score(attack: Attack, evidence: Evidence, *, seeds: Seeds) -> Scores:
    """The attack's scores, after checking that it sees only what the threat model grants."""
    check_access(attack, evidence.access)
    scores = attack.score(evidence, seeds=seeds)
    if scores.records != evidence.records:
        raise IncompatibleError(f"attack {attack.name!r} returned scores for other records than it was given")
    return scores


def check_access(attack: Attack, access: Access) -> None:
    """Refuse an attack that needs more access than the threat model declares."""
    if not access.covers(attack.needs.access):
        raise IncompatibleError(
            f"attack {attack.name!r} needs access to {', '.join(attack.needs.access.names())}, but [audit] access "
            f"grants {', '.join(access.names()) or 'nothing'}: widen the threat model or choose another attack"
        )


def certify(scores: Scores, inside: BoolArray, how: JudgedBy, mechanism: Mechanism) -> Certified:
    """Count the fixed number of guesses and bound epsilon at both confidences."""
    trials = CoinTrials(scores.values, inside, scores.records)
    method = check_method(how, len(scores.values), mechanism)
    counts: Any = trials.sequence(how.guesses) if in_sequence(method) else trials.count(how.guesses)
    common: dict[str, Any] = {"delta": how.delta, "selection": Selection(), "alpha_share": how.alpha_share}
    return Certified(
        method.certify(counts, confidence=how.confidence, **common),
        method.certify(counts, confidence=how.violation_confidence, **common),
    )


def check_method(how: JudgedBy, canaries: int, mechanism: Mechanism) -> Any:
    """The bound of `how`, after checking that it holds for this design and that there are canaries for its guesses."""
    if how.method not in CoinTrials.bounds:
        raise IncompatibleError(
            f"attack {how.attack!r}: bound {how.method!r} does not hold for many records of one model; use one of "
            f"{', '.join(CoinTrials.bounds)}"
        )
    if how.guesses > canaries:
        raise ConfigError(f"attack {how.attack!r}: {how.guesses} guesses, but it plays with {canaries} records only")
    return bound_method(how.method, mechanism)


def bound_method(name: str, mechanism: Mechanism) -> Any:
    """The bound called `name`; a family bound takes its family from the claimed mechanism."""
    method = BOUNDS.load(name)
    if name != "one-run-fdp":
        return method()
    if mechanism.name == "dp-sgd":
        return method(family="dp-sgd", sample_rate=mechanism["sample_rate"], steps=int(mechanism["steps"]))
    if mechanism.name == "gaussian":
        return method(family="gaussian")
    raise IncompatibleError(
        f"bound 'one-run-fdp' holds within a family of mechanisms, but the claim's mechanism is {mechanism.name!r}; "
        "use one-run"
    )


def in_sequence(method: Any) -> bool:
    """Whether a bound reads guesses one by one, most confident first, instead of their number."""
    return bool(method.counts_type is GuessSequence)


def perfect_counts(method: Any, canaries: int, guesses: int) -> Any:
    """What a perfect attack would hand to the bound."""
    if in_sequence(method):
        return GuessSequence(correct=(True,) * guesses, canaries=canaries)
    return GuessCounts(canaries=canaries, guesses=guesses, correct=guesses)


def judged_by(
    section: AttackSection, canaries: int, share: float, delta: float, confidences: tuple[float, float]
) -> JudgedBy:
    """How one attack is judged, from its section of the file and the size of its game."""
    return JudgedBy(
        attack=section.identity,
        guesses=section.guesses or default_guesses(canaries),
        alpha_share=share,
        delta=delta,
        method=section.bound or "one-run",
        confidence=confidences[0],
        violation_confidence=confidences[1],
    )
