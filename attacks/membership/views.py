"""LiRA over several views of a record: normal laws of the vector of logits, one entry a view."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.types import Answers, BoolArray, Evidence
from .signals import logit

RIDGE = 1e-6
"""Share of the mean variance added to each view's: views that agree to the last bit would make it singular."""


def view_logits(answer: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logit of the given label for every view: (records, views, classes) and (records,) to (records, views)."""
    records, views, classes = answer.shape
    flat = np.asarray(answer).reshape(records * views, classes)
    return logit(flat, np.repeat(labels, views)).reshape(records, views)


def answered(evidence: Evidence, query: str, views: int) -> Answers:
    """The answers to `query`, checked to have `views` views of every record. `IncompatibleError` otherwise."""
    answers = evidence.answers.get(query)
    if answers is None:
        raise IncompatibleError(
            f"attack 'lira' needs answers to the query {query!r}, the evidence has none: set augmentations to 1"
        )
    if answers.target.ndim != 3 or answers.target.shape[1] != views:
        raise IncompatibleError(
            f"attack 'lira': answers to {query!r} have shape {answers.target.shape}, expected (records, {views}, "
            "classes)"
        )
    return answers


def projected(evidence: Evidence, answers: Answers, shadows: int) -> Evidence:
    """The same evidence about a model of two classes whose logit for label 1 is one weighted sum of the views' logits.

    The weights are Fisher's (1936): the pooled covariance of views within a record, inverted, times the mean difference
    between shadows that saw the record and those that did not. They are as many as views, from all records together, so
    few shadows suffice, and a view on which members do not differ counts for nothing. Whatever reads logits can read
    the result.
    """
    weights = discriminant(evidence, answers, shadows)
    target = _two_class(view_logits(answers.target, evidence.labels) @ weights)
    read = [_two_class(view_logits(answers.shadows[j], evidence.labels) @ weights) for j in range(shadows)]
    return replace(
        evidence,
        labels=np.ones_like(evidence.labels),
        target=target,
        shadows=np.stack(read),
        shadow_inside=evidence.shadow_inside[:shadows],
        population_labels=np.zeros(0, dtype=np.int64),
        population_target=np.zeros((0, 2)),
        population_shadows=np.zeros((shadows, 0, 2)),
        answers={},
    )


def discriminant(evidence: Evidence, answers: Answers, shadows: int) -> NDArray[np.float64]:
    """Fisher's weights of the views (views,), absolute values summing to 1; equal ones where no record has both sides
    or no view differs."""
    inside, outside = (_moments(evidence, answers, shadows, seen=seen) for seen in (True, False))
    both, views = (inside.count > 0) & (outside.count > 0), inside.mean.shape[1]
    if not both.any():
        return np.full(views, 1 / views)
    gap = (inside.mean - outside.mean)[both].mean(axis=0)
    within = _covariance(inside.products + outside.products, inside.freedom + outside.freedom)
    weights = np.linalg.solve(within, gap)
    size = float(np.abs(weights).sum())
    return np.asarray(weights / size if size > 0 else np.full(views, 1 / views))


@dataclass(frozen=True, slots=True)
class ViewMoments:
    """Over one side's shadows: `count` (records,), `mean` and sum of squared deviations `squares` (records, views), and
    `products` (views, views), the deviations' products summed over records."""

    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    products: NDArray[np.float64]

    @property
    def freedom(self) -> int:
        """Degrees of freedom of `products`."""
        return int(np.maximum(self.count - 1, 0).sum())

    def variance(self) -> NDArray[np.float64]:
        """Per record and view; the pooled one where a record has fewer than two shadows on this side."""
        own = self.squares / np.maximum(self.count - 1, 1)[:, None]
        pooled = np.diag(self.products) / max(self.freedom, 1) if self.freedom else np.ones(self.mean.shape[1])
        return np.maximum(np.where(self.count[:, None] > 1, own, pooled), 1e-12)


def joint_ratio(evidence: Evidence, answers: Answers, shadows: int, variance: str) -> NDArray[np.float64]:
    """Log-likelihood ratio of in against out, per record, from normal laws of all views together.

    `fixed` and `global`: full covariance between views, pooled over records, for the sides apart or together (the
    joint law of Carlini et al. 2022, section VI.B). `per-example`: each record's own variances, views taken as
    independent and averaged: no record has shadows enough for a covariance of its own.
    """
    target = view_logits(answers.target, evidence.labels)
    inside, outside = (_moments(evidence, answers, shadows, seen=seen) for seen in (True, False))
    mean_in, mean_out = _completed(inside, outside)
    if variance == "per-example":
        ratio = _independent(target - mean_in, inside.variance()) - _independent(target - mean_out, outside.variance())
        return np.asarray(ratio)
    products, freedom = (inside.products, outside.products), (inside.freedom, outside.freedom)
    if variance == "global":
        products, freedom = (sum(products),) * 2, (sum(freedom),) * 2  # type: ignore[assignment]
    covariance = [_covariance(p, n) for p, n in zip(products, freedom, strict=True)]
    return _joint(target - mean_in, covariance[0]) - _joint(target - mean_out, covariance[1])


def _moments(evidence: Evidence, answers: Answers, shadows: int, *, seen: bool) -> ViewMoments:
    """Welford's update, one shadow in memory at a time."""
    records, views = answers.target.shape[:2]
    count, mean = np.zeros(records, dtype=np.int64), np.zeros((records, views))
    squares, products = np.zeros((records, views)), np.zeros((views, views))
    for j in range(shadows):
        where: BoolArray = np.asarray(evidence.shadow_inside[j], dtype=np.bool_) == seen
        values = view_logits(answers.shadows[j], evidence.labels)
        count += where
        change = np.where(where[:, None], values - mean, 0.0)
        mean += change / np.maximum(count, 1)[:, None]
        after = values - mean
        squares += change * after
        products += change.T @ after
    return ViewMoments(count, mean, squares, (products + products.T) / 2)


def _completed(inside: ViewMoments, outside: ViewMoments) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    has_in, has_out = inside.count > 0, outside.count > 0
    both = has_in & has_out
    if not both.any():
        raise IncompatibleError(
            "lira, online: no record is in some shadow models and out of others: train shadows on different parts of "
            "the audit records, or set mode to offline"
        )
    shift = (inside.mean - outside.mean)[both].mean(axis=0)
    mean_in = np.where(has_in[:, None], inside.mean, outside.mean + shift)
    return mean_in, np.where(has_out[:, None], outside.mean, inside.mean - shift)


def _covariance(products: NDArray[np.float64], freedom: int) -> NDArray[np.float64]:
    views = len(products)
    pooled = products / freedom if freedom else np.eye(views)
    return np.asarray(pooled + (RIDGE * float(np.trace(pooled)) / views + 1e-12) * np.eye(views))


def _joint(deviation: NDArray[np.float64], covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    solved = np.linalg.solve(covariance, deviation.T).T
    return np.asarray(-0.5 * (np.linalg.slogdet(covariance)[1] + (deviation * solved).sum(axis=1)))


def _independent(deviation: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(-0.5 * (np.log(variance) + deviation**2 / variance).mean(axis=1))


def _two_class(phi: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([-np.logaddexp(0, phi), -np.logaddexp(0, -phi)], axis=-1)
