"""What the public data alone tell about a hidden attribute: the attacker without the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import Rows
from .columns import Attribute

LEAST_PUBLIC = 50
SMALLEST = 1e-3
"""Probability of a candidate that the imputation rules out: public data are never that sure of a stranger."""


@dataclass(frozen=True, slots=True)
class Imputation:
    """A classifier of the attribute by all other columns and, with `knows_label`, the label of the record."""

    attribute: Attribute
    classes: int
    knows_label: bool
    classifier: Any

    @classmethod
    def learn(cls, population: Rows, attribute: Attribute, *, knows_label: bool, seeds: Seeds) -> Imputation:
        """Fit logistic regression and a random forest to the population and keep whichever cross-validates better.

        A weak imputation would make any attack look strong: the comparison is only as honest as this baseline
        (Jayaraman, Evans 2022, arXiv 2209.01292). `IncompatibleError` with fewer than 50 public records.
        """
        from sklearn.model_selection import StratifiedKFold, cross_val_score

        truth = attribute.of(population.features)
        known = truth >= 0
        if known.sum() < LEAST_PUBLIC or len(np.unique(truth[known])) < 2:
            raise IncompatibleError(
                f"imputing {attribute.name!r} needs at least {LEAST_PUBLIC} public records with two values of it, got "
                f"{int(known.sum())}"
            )
        empty = cls(attribute, population.classes, knows_label, None)
        columns, truth = empty._columns(population.features[known], population.labels[known]), truth[known]
        state = seeds.integer() % 2**32
        folds = StratifiedKFold(3, shuffle=True, random_state=state)
        candidates = _classifiers(state)
        # Rare values have fewer rows than folds; scikit-learn only warns.
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quality = [cross_val_score(c, columns, truth, cv=folds).mean() for c in candidates]
            best = candidates[int(np.argmax(quality))].fit(columns, truth)
        return cls(attribute, population.classes, knows_label, best)

    def log_posterior(self, rows: Rows) -> NDArray[np.float64]:
        """Natural-log probability of every candidate, (records, candidates)."""
        out = np.zeros((len(rows), len(self.attribute.values)))
        out[:, self.classifier.classes_] = self.classifier.predict_proba(self._columns(rows.features, rows.labels))
        out = np.maximum(out, SMALLEST)
        return np.asarray(np.log(out / out.sum(axis=1, keepdims=True)))

    def _columns(self, features: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        others = self.attribute.without(features)
        if not self.knows_label:
            return np.asarray(others, dtype=np.float64)
        return np.column_stack([others, labels[:, None] == np.arange(self.classes)]).astype(np.float64)


def _classifiers(state: int) -> list[Any]:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return [
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
        RandomForestClassifier(200, min_samples_leaf=5, random_state=state),
    ]
