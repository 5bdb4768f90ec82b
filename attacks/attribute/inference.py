"""Attribute inference: a record is known but for one sensitive column, and the model is asked which value fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.games import Example, Measure, Outcome, Stage
from ...audit.metrics.intervals import binomial_interval
from ...audit.seeds import Seeds
from ...audit.types import Access, BoolArray, Needs, Rows, Target, Unit
from ..parameters import require_choice, require_integer
from .columns import Attribute, find_attribute
from .imputation import Imputation
from .intervals import Difference, paired, unpaired

LEAST_VICTIMS = 20
SHOWN = 4
PUBLIC_DATA = "imputation from public data"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeInference:
    """Guess the hidden attribute of records in the training data, and of records outside it.

    The attacker knows all other columns and the label, writes every candidate into the record, and takes the one with
    the largest prior times the model's confidence in the known label (Fredrikson et al. 2014; Yeom et al. 2018, arXiv
    1709.01604). `prior`: `imputation`, the candidate's probability given the other columns, or `marginal`,
    its frequency, both learned from the population.

    Guessing right proves nothing about the model: attributes can mostly be inferred from the others (Jayaraman, Evans
    2022, arXiv 2209.01292). So each rate stands next to that of an imputation which has the same public data and knows
    the label too; `training_effect` is what being in the training data adds to the model's advantage over it.
    `column` is named as in the data; `bins` as in `find_attribute`.
    """

    name: ClassVar[str] = "attribute-inference"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "attribute"
    unit: ClassVar[Unit] = Unit.RECORD

    column: str
    bins: int = 4
    prior: Literal["imputation", "marginal"] = "imputation"

    def __post_init__(self) -> None:
        require_integer(self.name, "bins", self.bins, least=2)
        require_choice(self.name, "prior", self.prior, ("imputation", "marginal"))

    @property
    def needs(self) -> Needs:
        """The confidence in the label of records that the attacker writes."""
        return Needs(access=Access.LOSS, population=True)

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """Every audit record is a victim. `IncompatibleError` with fewer than 20 victims inside or outside."""
        attribute = find_attribute(stage.population, self.column, self.bins)
        truth = attribute.of(stage.private.features)
        known = np.flatnonzero(truth >= 0)
        victims, inside, truth = stage.private.take(known), stage.inside[known], truth[known]
        if min(inside.sum(), (~inside).sum()) < LEAST_VICTIMS:
            raise IncompatibleError(
                f"attack {self.name!r}: {int(inside.sum())} victims inside and {int((~inside).sum())} outside have a "
                f"known {self.column!r}; it takes {LEAST_VICTIMS} of each"
            )
        target = stage.target().target
        blind = Imputation.learn(stage.population, attribute, knows_label=True, seeds=seeds.at("imputation"))
        without_model = blind.log_posterior(victims)
        with_model = confidence_in_label(target, victims, attribute) + self._prior(
            stage.population, victims, attribute, seeds
        )
        guesses = _Guesses(with_model, without_model, truth, inside)
        measures = guesses.measures(stage.confidence)
        return Outcome(
            measures,
            self._threat(attribute),
            examples=guesses.examples(attribute, victims),
            informative=learned(target, stage.population),
            notes=_notes(stage.private, known, attribute),
        )

    def _prior(self, population: Rows, victims: Rows, attribute: Attribute, seeds: Seeds) -> NDArray[np.float64]:
        if self.prior == "imputation":
            # Without the label: the model's confidence brings it in, and it must count once.
            plain = Imputation.learn(population, attribute, knows_label=False, seeds=seeds.at("prior"))
            return plain.log_posterior(victims)
        seen = attribute.of(population.features)
        counts = np.bincount(seen[seen >= 0], minlength=len(attribute.values)) + 0.5
        return np.asarray(np.log(counts / counts.sum()))[None]

    def _threat(self, attribute: Attribute) -> dict[str, str]:
        return {
            "holds": "the model's confidence in a label, for any record it writes",
            "knows": f"all columns of the victim but {attribute.name!r}, its label, and public records like it",
            "goal": f"name {attribute.name!r} among {len(attribute.values)} values",
        }


def confidence_in_label(target: Target, victims: Rows, attribute: Attribute) -> NDArray[np.float64]:
    """Natural-log probability of each victim's own label under every candidate, (victims, candidates)."""
    rows = np.arange(len(victims))
    answers = [
        target.log_probabilities(attribute.written(victims.features, k))[rows, victims.labels]
        for k in range(len(attribute.values))
    ]
    return np.stack(answers, axis=1).astype(np.float64)


def learned(target: Target, population: Rows) -> bool:
    """Whether the model beats the most frequent class on public records: one that does not has nothing to tell."""
    right = int((target.log_probabilities(population.features).argmax(axis=1) == population.labels).sum())
    frequent = np.bincount(population.labels).max() / len(population)
    return bool(binomial_interval(right, len(population), 0.95).low > frequent)


@dataclass(frozen=True, slots=True)
class _Guesses:
    """Log-odds (victims, candidates) of both attackers up to a constant a victim, the truth, and who is inside."""

    with_model: NDArray[np.float64]
    without_model: NDArray[np.float64]
    truth: NDArray[np.int64]
    inside: BoolArray

    def measures(self, confidence: float) -> dict[str, Measure]:
        """The figures of the finding."""
        model, blind = (self._right(scores) for scores in (self.with_model, self.without_model))
        members, others = self.inside, ~self.inside
        over_members, over_others = (paired(model[side], blind[side]) for side in (members, others))
        return {
            "accuracy_members": _rate(model[members], blind[members], confidence),
            "accuracy_nonmembers": _rate(model[others], blind[others], confidence),
            "accuracy_most_confident_members": self._confident(model, blind, confidence),
            "advantage_over_imputation": _difference(
                over_members, confidence, int(members.sum()), over_others, "the same on records outside"
            ),
            "accuracy_gap": _difference(
                unpaired(model[members], model[others]),
                confidence,
                len(model),
                unpaired(blind[members], blind[others]),
                PUBLIC_DATA,
            ),
            "training_effect": _difference(over_members.minus(over_others), confidence, len(model)),
        }

    def examples(self, attribute: Attribute, victims: Rows) -> tuple[Example, ...]:
        """The members about whom the model is surest, whether it is right or wrong."""
        margin = np.where(self.inside, _margin(self.with_model), -np.inf)
        out = []
        for victim in np.argsort(-margin, kind="stable")[:SHOWN]:
            names = [attribute.values[k] for k in (self.truth[victim], self.with_model[victim].argmax())]
            original, guessed = ({attribute.name: name} for name in names)
            label = f"a member of class {victims.labels[victim]}"
            out.append(Example("tabular", label, original, guessed, float(margin[victim]), "log-odds over the second"))
        return tuple(out)

    def _right(self, scores: NDArray[np.float64]) -> BoolArray:
        return np.asarray(scores.argmax(axis=1) == self.truth)

    def _confident(self, model: BoolArray, blind: BoolArray, confidence: float) -> Measure:
        """On the tenth of the members about whom each attacker is surest: few people at high risk hide in a mean."""
        members = np.flatnonzero(self.inside)
        count = max(LEAST_VICTIMS // 2, len(members) // 10)
        surest = [
            members[np.argsort(-_margin(scores[members]), kind="stable")[:count]]
            for scores in (self.with_model, self.without_model)
        ]
        return _rate(model[surest[0]], blind[surest[1]], confidence)


def _margin(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds of the best candidate over the second best."""
    best = np.sort(scores, axis=1)
    return np.asarray(best[:, -1] - best[:, -2])


def _rate(right: BoolArray, blind: BoolArray, confidence: float) -> Measure:
    values: list[dict[str, Any]] = []
    for hits in (right, blind):
        found = binomial_interval(int(hits.sum()), len(hits), confidence)
        values.append({"value": found.value, "low": found.low, "high": found.high, "n": len(hits)})
    return Measure(**values[0], baseline=Measure(**values[1], name=PUBLIC_DATA))


def _difference(
    found: Difference, confidence: float, n: int, base: Difference | None = None, name: str | None = None
) -> Measure:
    low, high = found.limits(confidence)
    baseline = None
    if base is not None:
        baseline = Measure(base.value, *base.limits(confidence), name=name)
    return Measure(found.value, low, high, n, baseline=baseline)


def _notes(private: Rows, known: NDArray[np.intp], attribute: Attribute) -> tuple[str, ...]:
    left_out = len(private) - len(known)
    if not left_out:
        return ()
    return (f"{left_out} records have no {attribute.name!r}, or one that no public record has, and are no victims",)
