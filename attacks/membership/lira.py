"""LiRA, the likelihood-ratio attack (Carlini, Chien, Nasr, Song, Terzis, Tramer 2022, arXiv 2112.03570)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, Needs, Scores
from ..parameters import require_choice, require_integer, require_shadows
from .hierarchical import outside_predictive, predictives
from .moments import Moments, Sides, logit_moments
from .queries.augmented import Augmented
from .queries.variants import Kind
from .signals import logit
from .views import answered, joint_ratio, projected

SMALLEST_VARIANCE = 1e-12
"""Keeps the density finite where all shadows agree to the last bit."""

VARIANCES = ("fixed", "per-example", "global", "bayesian")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lira:
    """Is the target's logit on this record more like that of models trained with it, or without it?

    `shadows`: models trained like the target on other halves of the data, read in order.
    `mode`: `online` compares a law fitted to the shadows trained with the record against one fitted to those trained
    without it (algorithm 1). `offline` uses only the latter, one-sided (section VI.C): only a logit *above* what
    outsiders show speaks for membership.
    `variance`: `fixed` pools the within-record variance over all records, for the two sides apart; `global` over both
    sides together; `per-example` fits each record's own; `bayesian` shrinks each record's variances, and the gap
    between its means, towards what records of its kind show (`hierarchical`, after Brännvall 2026, arXiv 2603.11799).
    `augmentations`: views of each record that every model is asked about, itself included; `kind` as in `Augmented`.
    `views`: `weighted` reads one weighted sum of their logits, weights from all records together; `joint`, online only,
    fits a law of all of them at once, with full covariance for `fixed` and `global` and independent views for
    `per-example` (section VI.B).
    """

    name: ClassVar[str] = "lira"
    replayable: ClassVar[bool] = True

    shadows: int = 64
    mode: Literal["online", "offline"] = "online"
    variance: Literal["fixed", "per-example", "global", "bayesian"] = "fixed"
    augmentations: int = 1
    kind: Kind = "auto"
    views: Literal["weighted", "joint"] = "weighted"

    def __post_init__(self) -> None:
        require_choice(self.name, "mode", self.mode, ("online", "offline"))
        require_choice(self.name, "variance", self.variance, VARIANCES)
        require_integer(self.name, "shadows", self.shadows, least=4 if self.variance == "per-example" else 2)
        require_integer(self.name, "augmentations", self.augmentations, least=1)
        require_choice(self.name, "views", self.views, ("weighted", "joint"))
        if self.augmentations > 1:
            self._query()
        if self.views == "joint" and (self.mode == "offline" or self.variance == "bayesian"):
            raise ConfigError(
                f"attack 'lira': views 'joint' is for mode 'online' and variance {', '.join(VARIANCES[:3])}, got "
                f"{self.mode!r} and {self.variance!r}: set views to weighted"
            )

    @property
    def needs(self) -> Needs:
        """Logits of the target and of `shadows` models, on `augmentations` views of each record."""
        queries = (self._query(),) if self.augmentations > 1 else ()
        return Needs(access=Access.LOGITS, shadows=self.shadows, queries=queries)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """Online: log-likelihood ratio of in against out. Offline: log-odds of the one-sided tail probability.

        Higher means more likely inside; draws nothing from `seeds`. A record that no shadow saw (or that every shadow
        saw) gets the missing mean from the other side, moved by the average shift between the sides over the records
        that have both. `IncompatibleError` when there are too few shadows or no record has both sides.
        """
        require_shadows(self.name, "shadows", evidence, self.shadows)
        if self.augmentations > 1:
            answers = answered(evidence, Augmented.name, self.augmentations)
            if self.views == "joint":
                return Scores(joint_ratio(evidence, answers, self.shadows, self.variance), evidence.records)
            evidence = projected(evidence, answers, self.shadows)
        signal = logit(evidence.target, evidence.labels)
        score = self._online if self.mode == "online" else self._offline
        return Scores(score(evidence, signal), evidence.records)

    def _online(self, evidence: Evidence, signal: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.variance == "bayesian":
            inside, outside = predictives(evidence, self.shadows)
            return inside.log_density(signal) - outside.log_density(signal)
        sides = logit_moments(evidence, self.shadows)
        mean_in, mean_out = completed_means(sides, self.mode)
        return _log_normal(signal, mean_in, self._variance(sides.inside, sides)) - _log_normal(
            signal, mean_out, self._variance(sides.outside, sides)
        )

    def _offline(self, evidence: Evidence, signal: NDArray[np.float64]) -> NDArray[np.float64]:
        sides = logit_moments(evidence, self.shadows)
        _, mean_out = completed_means(sides, self.mode)
        if self.variance == "bayesian":
            return one_sided(outside_predictive(sides.outside, mean_out).normal_deviate(signal))
        return one_sided((signal - mean_out) / np.sqrt(self._variance(sides.outside, sides)))

    def _variance(self, side: Moments, sides: Sides) -> NDArray[np.float64]:
        if self.variance == "per-example":
            return np.maximum(side.variance(), SMALLEST_VARIANCE)
        pooled = side.pooled_variance()
        if self.variance == "global" and self.mode == "online":
            pooled = _common_variance(sides)
        return np.full(len(side.mean), max(pooled, SMALLEST_VARIANCE))

    def _query(self) -> Augmented:
        return Augmented(count=self.augmentations, kind=self.kind)


def completed_means(
    sides: Sides, mode: Literal["online", "offline"]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means (in, out), each (records,): as measured where there are shadows, else imputed from the other side."""
    has_in, has_out = sides.inside.count > 0, sides.outside.count > 0
    both = has_in & has_out
    if not both.any() and (mode == "online" or not has_out.all()):
        raise IncompatibleError(
            f"lira, {mode}: no record is in some shadow models and out of others: train shadows on different parts "
            "of the audit records" + ("" if mode == "offline" else ", or set mode to offline")
        )
    shift = float((sides.inside.mean - sides.outside.mean)[both].mean()) if both.any() else 0.0
    mean_in = np.where(has_in, sides.inside.mean, sides.outside.mean + shift)
    mean_out = np.where(has_out, sides.outside.mean, sides.inside.mean - shift)
    return mean_in, mean_out


def one_sided(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """log Phi(z) - log(1 - Phi(z)): the order of log Phi(z), without its rounding to 0 from z = 38 on."""
    return np.asarray(log_ndtr(z) - log_ndtr(-z), dtype=np.float64)


def _log_normal(
    x: NDArray[np.float64], mean: NDArray[np.float64], variance: NDArray[np.float64]
) -> NDArray[np.float64]:
    return -0.5 * (np.log(variance) + (x - mean) ** 2 / variance)


def _common_variance(sides: Sides) -> float:
    """Within-record variance pooled over records and over both sides; 1 where no record has two shadows on a side."""
    freedom = sum(int(np.maximum(side.count - 1, 0).sum()) for side in (sides.inside, sides.outside))
    squares = float(sides.inside.squares.sum() + sides.outside.squares.sum())
    return squares / freedom if freedom else 1.0
