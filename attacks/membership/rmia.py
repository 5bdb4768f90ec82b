"""RMIA, the robust membership inference attack (Zarifzadeh, Liu, Shokri 2024, arXiv 2312.03262), exact, by sorting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.metrics import auc
from ...audit.seeds import Seeds
from ...audit.types import Access, BoolArray, Evidence, Needs, Scores
from ..parameters import require_choice, require_integer, require_number, require_shadows
from .signals import true_class

SCALINGS = tuple(round(0.1 * step, 1) for step in range(10, -1, -1))
"""Candidates of the tuned offline scaling; of equally good ones the first, which assumes least, wins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rmia:
    """Does the record gain more from the target, against reference models, than population records do?

    With r(x) = p(x | target) / p(x), the score is the fraction of population records z with r(x) / r(z) >= gamma.

    `references`: models trained like the target, read in order; they come as complementary pairs, so each record is
    out of half of them. `mode` says how p(x) is estimated: `online`, the mean of its average over references trained
    with x and of that over references trained without; `offline`, ((1 + a) p_out(x) + 1 - a) / 2, which replaces the
    first by a guess, p_in = a p_out + 1 - a. Population records are in no reference and always take the latter.
    `offline_scaling` is that a: a number in [0, 1], or `tuned`: the value with the best mean AUC when each
    reference in turn plays the target against the others but its complement. It never sees the real target or its
    membership. The default 1 guesses nothing about members; it was best on the fixture of docs/attacks.md.
    `gamma` >= 1: how much more the record must gain.
    """

    name: ClassVar[str] = "rmia"
    replayable: ClassVar[bool] = True

    references: int = 4
    mode: Literal["online", "offline"] = "online"
    gamma: float = 1.0
    offline_scaling: float | Literal["tuned"] = 1.0

    def __post_init__(self) -> None:
        tuned = self.offline_scaling == "tuned"
        # Tuning plays a reference against at least one other pair.
        require_integer(self.name, "references", self.references, least=4 if tuned else 2)
        require_choice(self.name, "mode", self.mode, ("online", "offline"))
        require_number(self.name, "gamma", self.gamma, low=1.0)
        if isinstance(self.offline_scaling, str):
            require_choice(self.name, "offline_scaling", self.offline_scaling, ("tuned", "a number in [0, 1]"))
        else:
            require_number(self.name, "offline_scaling", self.offline_scaling, low=0.0, high=1.0)

    @property
    def needs(self) -> Needs:
        """The loss of the target and of `references` models, on the records and on population records."""
        return Needs(access=Access.LOSS, shadows=self.references, population=True)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """A refinement in (0, 1) of the RMIA score: same order, ties split by r(x). Draws nothing from `seeds`.

        Higher means more likely inside. `ConfigError` without population records, `IncompatibleError` with too few
        references.
        """
        ratio, population = self.ratios(evidence)
        count = population_count(ratio, population, self.gamma)
        return Scores(refined(count, ratio, len(population)), evidence.records)

    def exact(self, evidence: Evidence) -> NDArray[np.float64]:
        """The RMIA score of the paper (definition 2), ties and all: a fraction in [0, 1] per record."""
        ratio, population = self.ratios(evidence)
        return population_count(ratio, population, self.gamma) / len(population)

    def ratios(self, evidence: Evidence) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """r(x) of the records and r(z) of the population: the target's probability over the average model's."""
        require_shadows(self.name, "references", evidence, self.references)
        if not len(evidence.population_labels):
            raise ConfigError("attack 'rmia' compares with population records, got none: hold some out of every model")
        inside = np.asarray(evidence.shadow_inside[: self.references], dtype=np.bool_)
        scaling = self.offline_scaling
        if isinstance(scaling, str):
            # The only place where all references are in memory: records times references, but not times classes.
            scaling = tuned_scaling(np.stack(list(_probabilities(evidence, self.references))), inside)
        probability = _probabilities(evidence, self.references)
        usual = average_probability(probability, inside, scaling=float(scaling), online=self.mode == "online")
        ratio = np.exp(true_class(evidence.target, evidence.labels)) / usual
        return ratio, _population_ratios(evidence, self.references, float(scaling))


def population_count(ratio: NDArray[np.float64], population: NDArray[np.float64], gamma: float) -> NDArray[np.int64]:
    """How many population records z have r(x) >= gamma r(z), per record x: O((N + Z) log Z) in place of N Z."""
    return np.searchsorted(np.sort(gamma * population), ratio, side="right").astype(np.int64)


def refined(count: NDArray[np.int64], ratio: NDArray[np.float64], population: int) -> NDArray[np.float64]:
    """(count + u) / (population + 1) with u in (0, 1) increasing in `ratio`: count decides, the ratio splits ties.

    Population records are few where it matters, at low false-positive rates: members and non-members above the last
    of them tie at 1, and a threshold cannot fall between them.
    """
    # arctan of the log keeps apart ratios from 1e-45 to 1e45, where ratio / (1 + ratio) rounds to 0 or 1.
    within = 0.5 + np.arctan(np.log(ratio)) / np.pi
    return np.asarray((count + within) / (population + 1), dtype=np.float64)


def average_probability(
    probability: Iterable[NDArray[np.float64]], inside: BoolArray, *, scaling: float, online: bool
) -> NDArray[np.float64]:
    """p(x) over reference models, (records,), from `probability`, read one reference (records,) after another, and
    `inside` (references, records).

    Online, a record in no reference takes the offline form; a record in every reference has only p_in, in both modes.
    """
    times_in, times_out = inside.sum(axis=0), (~inside).sum(axis=0)
    mean_in, mean_out = np.zeros(inside.shape[1]), np.zeros(inside.shape[1])
    for values, members in zip(probability, inside, strict=True):
        mean_in += np.where(members, values, 0.0)
        mean_out += np.where(members, 0.0, values)
    mean_in /= np.maximum(times_in, 1)
    mean_out /= np.maximum(times_out, 1)
    offline = ((1 + scaling) * mean_out + (1 - scaling)) / 2
    usual = np.where(times_in > 0, (mean_in + mean_out) / 2, offline) if online else offline
    return np.asarray(np.where(times_out > 0, usual, mean_in), dtype=np.float64)


def tuned_scaling(probability: NDArray[np.float64], inside: BoolArray) -> float:
    """The offline scaling with the best mean AUC over references playing the target; arrays (references, records).

    The others serve as references, except any whose membership is the exact complement: an attacker has no model
    trained on exactly what the target was not, and tuning on one flatters every value. `IncompatibleError` when no
    reference can play.
    """
    totals = np.zeros(len(SCALINGS))
    for player in range(len(inside)):
        others = (inside == inside[player]).any(axis=1)
        others[player] = False
        usable = (~inside[others]).any(axis=0)
        truth = inside[player][usable]
        if not usable.any() or truth.all() or not truth.any():
            continue
        chosen, seen = probability[others][:, usable], inside[others][:, usable]
        for index, scaling in enumerate(SCALINGS):
            usual = average_probability(chosen, seen, scaling=scaling, online=False)
            totals[index] += auc(probability[player][usable] / usual, truth)
    if not totals.any():
        raise IncompatibleError("rmia: no reference can play the target: set offline_scaling to a number in [0, 1]")
    return SCALINGS[int(np.argmax(totals))]


def _probabilities(evidence: Evidence, references: int) -> Iterator[NDArray[np.float64]]:
    return (np.exp(true_class(evidence.shadows[j], evidence.labels)) for j in range(references))


def _population_ratios(evidence: Evidence, references: int, scaling: float) -> NDArray[np.float64]:
    labels = evidence.population_labels
    out = np.zeros(len(labels))
    for j in range(references):
        out += np.exp(true_class(evidence.population_shadows[j], labels))
    usual = ((1 + scaling) * out / references + (1 - scaling)) / 2
    return np.asarray(np.exp(true_class(evidence.population_target, labels)) / usual, dtype=np.float64)
