"""Quantile regression (Bertran, Tang, Kearns, Morgenstern, Roth, Wu 2023, arXiv 2307.03694): one model, no shadows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ...audit.errors import IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, Needs, Scores
from ..parameters import require_choice
from .signals import logit

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.97)
"""Quantiles of the score that `pinball` learns."""
COLUMNS = 64
"""Records with more columns are projected to this many, so that trees stay fast and few public rows suffice."""
LEAST_PUBLIC = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile:
    """How far the target's logit on this record lies above what it shows on public records like it.

    A regression learns the law of the target's logit given the record and its label from the population, which the
    target has not seen; members exceed its upper quantiles too often. `head`: `gaussian` learns mean and
    spread by boosted trees, the score is the standardised logit; `pinball`
    learns the quantiles `LEVELS` with the pinball loss, the score is the logit's place among them on the normal scale.
    The difficulty of a record, its label's log-probability by a forest fitted to other public records, is one of the
    regressors. Everything is cross-fitted, so that no record's law is learned from its own logit.
    """

    name: ClassVar[str] = "quantile"

    head: Literal["gaussian", "pinball"] = "gaussian"

    def __post_init__(self) -> None:
        require_choice(self.name, "head", self.head, ("gaussian", "pinball"))

    @property
    def needs(self) -> Needs:
        """Logits of the target on candidates and population, and the records themselves."""
        return Needs(access=Access.LOGITS, population=True, features=True)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:
        """One score per record of `evidence`. `IncompatibleError` with fewer than 50 public records, or tokens."""
        public, asked = _columns(evidence, seeds)
        truth = logit(evidence.population_target, evidence.population_labels)
        classes = evidence.target.shape[1]
        hard = _Difficulty(public, evidence.population_labels, classes, seeds.at("difficulty"))
        known = _described(public, evidence.population_labels, hard.public(), classes)
        wanted = _described(asked, evidence.labels, hard.of(asked, evidence.labels), classes)
        signal = logit(evidence.target, evidence.labels)
        law = _gaussian if self.head == "gaussian" else _pinball
        return Scores(law(known, truth, wanted, signal, seeds.at("trees")), evidence.records)


def _columns(evidence: Evidence, seeds: Seeds) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Population and candidates as (records, columns), at most `COLUMNS` of them."""
    public, asked = evidence.population_features, evidence.features
    if public is None or asked is None or len(public) < LEAST_PUBLIC:
        raise IncompatibleError(
            f"attack 'quantile' learns from public records: it needs at least {LEAST_PUBLIC} with their features, got "
            f"{0 if public is None else len(public)}"
        )
    if not np.issubdtype(public.dtype, np.floating):
        raise IncompatibleError(f"attack 'quantile' needs numbers, got {public.dtype} features (tokens)")
    public, asked = (np.asarray(a, dtype=np.float32).reshape(len(a), -1) for a in (public, asked))
    width = public.shape[1]
    if width <= COLUMNS:
        return public, asked
    lens = seeds.at("projection").generator().standard_normal((width, COLUMNS), dtype=np.float32) / np.sqrt(width)
    return (public @ lens).astype(np.float32), (asked @ lens).astype(np.float32)


def _described(
    columns: NDArray[np.float32], labels: NDArray[np.int64], difficulty: NDArray[np.float64], classes: int
) -> NDArray[np.float64]:
    return np.column_stack([difficulty, labels[:, None] == np.arange(classes), columns]).astype(np.float64)


class _Difficulty:
    """Log-probability of a label given the record, by a forest fitted to public records other than itself."""

    def __init__(self, public: NDArray[np.float32], labels: NDArray[np.int64], classes: int, seeds: Seeds) -> None:
        from sklearn.ensemble import RandomForestClassifier

        self.forest: Any = RandomForestClassifier(
            200, min_samples_leaf=2, oob_score=True, random_state=seeds.integer() % 2**32
        ).fit(public, labels)
        self.labels, self.classes = labels, classes

    def public(self) -> NDArray[np.float64]:
        """Of the public records, out of bag."""
        return self._log(np.nan_to_num(self.forest.oob_decision_function_), self.labels)

    def of(self, columns: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of other records."""
        return self._log(self.forest.predict_proba(columns), labels)

    def _log(self, shares: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        table = np.zeros((len(shares), self.classes))
        table[:, self.forest.classes_] = shares
        # Half a tree's vote keeps a label that no tree named finite.
        return np.log(table[np.arange(len(labels)), labels] + 0.0025)


def _gaussian(
    public: NDArray[np.float64],
    truth: NDArray[np.float64],
    asked: NDArray[np.float64],
    signal: NDArray[np.float64],
    seeds: Seeds,
) -> NDArray[np.float64]:
    """Standardised logit: mean by trees, spread by trees on the logarithm of cross-fitted absolute residuals."""
    from sklearn.model_selection import cross_val_predict

    trees = _trees(seeds, loss="squared_error")
    folds = _folds(len(public), seeds)
    residual = truth - cross_val_predict(trees, public, truth, cv=folds)
    width = np.log(np.abs(residual) + 0.05 * truth.std() + 1e-9)
    mean = trees.fit(public, truth).predict(asked)
    spread = np.exp(_trees(seeds, loss="squared_error").fit(public, width).predict(asked))
    return np.asarray((signal - mean) / spread, dtype=np.float64)


def _pinball(
    public: NDArray[np.float64],
    truth: NDArray[np.float64],
    asked: NDArray[np.float64],
    signal: NDArray[np.float64],
    seeds: Seeds,
) -> NDArray[np.float64]:
    """The logit's place among the learned quantiles: piecewise linear between them on the normal scale."""
    columns = [_trees(seeds, loss="quantile", quantile=q).fit(public, truth).predict(asked) for q in LEVELS]
    knots = np.sort(np.column_stack(columns), axis=1)
    # Crossing or equal quantiles would make the scale infinitely steep.
    knots += np.arange(len(LEVELS)) * 1e-3 * truth.std()
    heights = ndtri(np.array(LEVELS))
    left = np.clip((signal[:, None] >= knots).sum(axis=1) - 1, 0, len(LEVELS) - 2)
    rows = np.arange(len(signal))
    inner = (heights[left + 1] - heights[left]) / (knots[rows, left + 1] - knots[rows, left])
    # Two neighbouring quantiles say little about the tail beyond them; the whole width says more.
    outer = (heights[-1] - heights[0]) / (knots[:, -1] - knots[:, 0])
    within = heights[left] + inner * (signal - knots[rows, left])
    above = heights[-1] + outer * (signal - knots[:, -1])
    below = heights[0] + outer * (signal - knots[:, 0])
    score = np.where(signal > knots[:, -1], above, np.where(signal < knots[:, 0], below, within))
    return np.asarray(score, dtype=np.float64)


def _trees(seeds: Seeds, **loss: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        **loss,
        max_iter=100,
        learning_rate=0.05,
        max_leaf_nodes=8,
        min_samples_leaf=10,
        early_stopping=False,
        random_state=seeds.integer() % 2**32,
    )


def _folds(rows: int, seeds: Seeds) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    fold = seeds.at("folds").generator().permutation(rows) % 5
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(5)]
