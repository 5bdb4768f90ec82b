"""LiRA, the likelihood-ratio attack (Carlini, Chien, Nasr, Song, Terzis, Tramer 2022, arXiv 2112.03570)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from ...audit.errors import IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, Needs, Scores
from ..parameters import require_choice, require_integer, require_shadows
from .moments import Moments, Sides, logit_moments
from .signals import logit

SMALLEST_VARIANCE = 1e-12
"""Keeps the density finite where all shadows agree to the last bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lira:
    """Is the target's logit on this record more like that of models trained with it, or without it?

    `shadows`: models trained like the target on other halves of the data, read in order.
    `mode`: `online` compares a normal law fitted to the shadows trained with the record against one fitted to those
    trained without it (algorithm 1). `offline` uses only the latter, one-sided (section VI.C): only a logit
    *above* what outsiders show speaks for membership.
    `variance`: `fixed` pools the within-record variance over all records, for the two sides apart; `per-example`
    fits each record's own. `fixed` is the default because it gave the higher TPR at 1 % FPR at every number of shadows
    measured from 4 to 64 (docs/attacks.md); `per-example` overtakes it in AUC, by 0.002 to 0.005, at 64.
    """

    name: ClassVar[str] = "lira"

    shadows: int = 64
    mode: Literal["online", "offline"] = "online"
    variance: Literal["fixed", "per-example"] = "fixed"

    def __post_init__(self) -> None:
        require_choice(self.name, "mode", self.mode, ("online", "offline"))
        require_choice(self.name, "variance", self.variance, ("fixed", "per-example"))
        require_integer(self.name, "shadows", self.shadows, least=4 if self.variance == "per-example" else 2)

    @property
    def needs(self) -> Needs:
        """Logits of the target and of `shadows` models."""
        return Needs(access=Access.LOGITS, shadows=self.shadows)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """Online: log-likelihood ratio of in against out. Offline: log-odds of the one-sided normal probability.

        Higher means more likely inside; draws nothing from `seeds`. A record that no shadow saw (or that every shadow
        saw) gets the missing mean from the other side, moved by the average shift between the sides over the records
        that have both. `IncompatibleError` when there are too few shadows or no record has both sides.
        """
        require_shadows(self.name, "shadows", evidence, self.shadows)
        signal = logit(evidence.target, evidence.labels)
        sides = logit_moments(evidence, self.shadows)
        mean_in, mean_out = completed_means(sides, self.mode)
        spread_out = self._variance(sides.outside)
        if self.mode == "offline":
            return Scores(one_sided((signal - mean_out) / np.sqrt(spread_out)), evidence.records)
        spread_in = self._variance(sides.inside)
        ratio = _log_normal(signal, mean_in, spread_in) - _log_normal(signal, mean_out, spread_out)
        return Scores(ratio, evidence.records)

    def _variance(self, side: Moments) -> NDArray[np.float64]:
        fixed = np.full(len(side.mean), side.pooled_variance())
        return np.maximum(fixed if self.variance == "fixed" else side.variance(), SMALLEST_VARIANCE)


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
