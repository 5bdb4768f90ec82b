"""Figures that a run is compared by, on scales where their variance does not depend on their size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy.special import expit, logit, ndtri

PROPORTIONS = ("guesses", "hits", "tpr@0.1", "tpr@0.01", "tpr@0.001")
"""Shares of right guesses and of hits behind a certified bound, and true-positive rates. Higher leaks more."""
MEASURE = "measure:"
"""Before the name of one of a game's own measures, such as `measure:psnr`."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One figure of one run.

    `value` as reported, `scaled` on the comparison's scale, where higher always leaks more, `variance` there as far as
    the `n` records explain it (the training's own variance comes on top), `perfect` the largest `scaled` the design
    can show.
    """

    value: float
    scaled: float
    variance: float
    perfect: float
    n: int


def proportion(successes: int, trials: int) -> Observation:
    """A share of right guesses or of members found: arcsine of the square root (Anscombe 1948).

    The variance 1 / (4 n + 2) is the binomial one. Guesses on independent canaries of unequal difficulty vary less
    (Hoeffding 1956), so it is never too small for one-run audits.
    """
    return Observation(
        successes / trials, _arcsine(successes, trials), 1 / (4 * trials + 2), _arcsine(trials, trials), trials
    )


def area(value: float, error: float, pairs: int, n: int) -> Observation:
    """An area under the ROC curve with its standard error on the logit scale (`logit_error`).

    `pairs` = min(members, nonmembers): areas closer than 1 / (2 pairs) to 0 or 1 cannot be told from it.
    """
    return Observation(value, _logit(value, pairs), error**2, _logit(1.0, pairs), n)


def measure(value: float, error: float, n: int, better: str) -> Observation:
    """A game's own measure, on its own scale; `better` is the direction that protects people, `lower` or `higher`."""
    return Observation(value, value if better == "lower" else -value, error**2, math.inf, n)


def observation(raw: Mapping[str, Any]) -> Observation:
    """One statistic of one run, from the raw numbers that a baseline stores."""
    if "successes" in raw:
        return proportion(raw["successes"], raw["trials"])
    if "better" in raw:
        return measure(raw["value"], raw["error"], raw["trials"], raw["better"])
    return area(raw["value"], raw["error"], raw["pairs"], raw["trials"])


def logit_error(low: float, high: float, confidence: float, pairs: int) -> float:
    """The standard error behind a two-sided normal interval that was drawn on the logit scale (DeLong's here)."""
    reach = float(ndtri(0.5 + confidence / 2))
    return (_logit(high, pairs) - _logit(low, pairs)) / (2 * reach)


def unscaled(statistic: str, scaled: float, n: int, better: str | None = None) -> float:
    """Back to the figure's own scale; `n` trials for proportions, `better` for measures."""
    if statistic.startswith(MEASURE):
        return -scaled if better == "higher" else scaled
    if statistic not in PROPORTIONS:
        return float(expit(scaled))
    inner = math.sin(min(max(scaled, 0.0), math.pi / 2)) ** 2
    return min(max((inner * (n + 0.75) - 0.375) / n, 0.0), 1.0)


def _arcsine(successes: int, trials: int) -> float:
    return math.asin(math.sqrt((successes + 0.375) / (trials + 0.75)))


def _logit(value: float, pairs: int) -> float:
    edge = 1 / (2 * pairs)
    return float(logit(min(max(value, edge), 1 - edge)))
