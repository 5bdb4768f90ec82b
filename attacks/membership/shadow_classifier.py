"""Shadow classifier (Shokri, Stronati, Song, Shmatikov 2017, arXiv 1610.05820): the classical attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, Needs, Scores
from ..parameters import require_choice, require_integer, require_shadows
from .classifiers import Kind, fit_classifier, log_odds, supported_kinds

FLOOR = -20.0
"""Log-probabilities below this tell a linear classifier nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowClassifier:
    """A classifier for each class, taught on the answers of shadow models, of which it knows who was inside.

    Each example is one shadow's answer to one record (the log-probabilities of all classes), labelled by whether that
    shadow saw the record; the classifier of a record's class then reads the target's answer. It never compares a record
    with itself under other models, which is why it is weak: the baseline that LiRA replaced. `classifier`: `boosting`,
    `logistic`, `forest` or `neural` (the paper's, one hidden layer of 64 units). At most `examples` examples a class,
    drawn at random; a class with fewer than `least` on either side shares a classifier with all other such classes.
    """

    name: ClassVar[str] = "shadow-classifier"

    shadows: int = 8
    classifier: Kind = "logistic"
    examples: int = 20_000
    least: int = 20
    by: Literal["class", "all"] = "class"

    def __post_init__(self) -> None:
        require_integer(self.name, "shadows", self.shadows, least=1)
        require_integer(self.name, "examples", self.examples, least=100)
        require_integer(self.name, "least", self.least, least=2)
        require_choice(self.name, "classifier", self.classifier, supported_kinds())
        require_choice(self.name, "by", self.by, ("class", "all"))

    @property
    def needs(self) -> Needs:
        """Probabilities of the target and of `shadows` models."""
        return Needs(access=Access.LOGITS, shadows=self.shadows)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:
        """Log-odds of membership; higher means more likely inside. `seeds` draw the examples and the classifiers' own
        randomness. `IncompatibleError` with too few shadows, or where they saw all of the records or none."""
        require_shadows(self.name, "shadows", evidence, self.shadows)
        inside = np.asarray(evidence.shadow_inside[: self.shadows], dtype=np.bool_)
        if inside.all() or not inside.any():
            raise IncompatibleError(
                "attack 'shadow-classifier': shadows saw all of the records, or none: nothing to learn"
            )
        out = np.empty(len(evidence.records))
        for name, here in self._groups(evidence.labels, inside).items():
            model = self._taught(evidence, here, inside, seeds=seeds.at(name))
            out[here] = log_odds(model, _features(evidence.target[here]))
        return Scores(out, evidence.records)

    def _groups(self, labels: NDArray[np.int64], inside: NDArray[np.bool_]) -> dict[str, NDArray[np.int64]]:
        """Positions of the records that share a classifier."""
        groups: dict[str, NDArray[np.int64]] = {}
        left = np.ones(len(labels), dtype=np.bool_)
        for label in np.unique(labels) if self.by == "class" else ():
            here = np.flatnonzero(labels == label)
            members = int(inside[:, here].sum())
            if min(members, inside[:, here].size - members) >= self.least:
                groups[f"class {label}"] = here
                left[here] = False
        if left.any():
            groups["others"] = np.flatnonzero(left)
        return groups

    def _taught(self, evidence: Evidence, here: NDArray[np.int64], inside: NDArray[np.bool_], *, seeds: Seeds) -> Any:
        pairs = len(here) * self.shadows
        chosen = np.arange(pairs)
        if pairs > self.examples:
            chosen = seeds.at("examples").generator().choice(pairs, self.examples, replace=False)
        shadow, record = chosen // len(here), here[chosen % len(here)]
        features = np.empty((len(chosen), evidence.target.shape[1]))
        for j in range(self.shadows):
            mine = shadow == j
            features[mine] = _features(np.asarray(evidence.shadows[j])[record[mine]])
        return fit_classifier(self.classifier, features, inside[shadow, record], seeds=seeds.at("classifier"))


def _features(log_probabilities: NDArray[Any]) -> NDArray[np.float64]:
    return np.maximum(np.asarray(log_probabilities, dtype=np.float64), FLOOR)
