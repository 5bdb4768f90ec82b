"""LiRA with few shadows: means and variances shrunk towards what all records share, by empirical Bayes.

Plain LiRA estimates two means and two variances a record, from as few as two shadows a side. The variance is the known
weak point, and conjugate priors on it the known remedy (BaVarIA: Brännvall 2026, arXiv 2603.11799, which puts normal
inverse-gamma priors on each record's parameters). Here the hyperparameters are fitted to the records themselves, and a
second quantity is shrunk, which turned out to matter more: the *gap* between a record's two means.

With y_in, y_out a record's logits under models that saw it or did not:

    y_out ~ N(m, v_out),  y_in ~ N(m + g, v_in),  flat prior on m,
    g ~ N(gamma(level), c gamma(level)^2),        v_side ~ scaled inverse chi-squared(d_side, s_side).

`gamma` is the mean gap among records of like level (mean of the two sides' means), since what is hard to fit gains most
from being seen. `c` comes from the covariance of two halves of the shadows, which no noise within a half can fake.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import betaln, gammaln

from ...audit.types import Evidence
from .moments import Moments, Sides, logit_moments

FloatVector = NDArray[np.float64]
RECORDS_A_LEVEL, MOST_LEVELS = 60, 20
"""The gap's mean is taken over groups of at least so many records, and linear between the groups' centres."""
MOST_FREEDOM, FIT_RECORDS = 1e4, 5_000
"""A prior worth more shadows than this is a common variance. Two hyperparameters need no more records than this."""
SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True, slots=True)
class Predictive:
    """Student's t law of a new model's logit, per record: location, scale and degrees of freedom, each (records,)."""

    location: FloatVector
    scale: FloatVector
    freedom: FloatVector

    def log_density(self, x: FloatVector) -> FloatVector:
        """Natural log of the density at `x` (records,)."""
        half = self.freedom / 2
        constant = gammaln(half + 0.5) - gammaln(half) - 0.5 * np.log(np.pi * self.freedom) - np.log(self.scale)
        z = (x - self.location) / self.scale
        return np.asarray(constant - (half + 0.5) * np.log1p(z**2 / self.freedom))

    def normal_deviate(self, x: FloatVector) -> FloatVector:
        """The normal deviate with nearly the tail probability of `x` (Wallace 1959), without underflow far out."""
        z, n = (x - self.location) / self.scale, self.freedom
        return np.asarray(np.sign(z) * np.sqrt(n * np.log1p(z**2 / n)) * (8 * n + 1) / (8 * n + 3))


@dataclass(frozen=True, slots=True)
class VariancePrior:
    """Scaled inverse chi-squared: worth `freedom` observations of variance `variance`."""

    freedom: float
    variance: float

    @classmethod
    def fit(cls, side: Moments) -> VariancePrior | None:
        """Maximum likelihood over records: squares / (n - 1) is `variance` times an F(n - 1, `freedom`) variable.

        None when no record has two shadows on this side.
        """
        known = np.flatnonzero(side.count > 1)
        if not len(known):
            return None
        known = known[:: max(1, len(known) // FIT_RECORDS)]
        n, squares = (side.count[known] - 1).astype(np.float64), side.squares[known]
        middle = max(float(squares.sum() / n.sum()), SMALLEST_VARIANCE)

        def surprise(parameters: FloatVector) -> float:
            freedom, variance = _unpacked(parameters, middle)
            weight = freedom * variance
            terms = betaln(n / 2, freedom / 2) + n / 2 * np.log(weight) + (n + freedom) / 2 * np.log1p(squares / weight)
            return float(terms.sum())

        best = minimize(surprise, np.array([np.log(5.0), 0.0]), method="Nelder-Mead", options={"xatol": 1e-3}).x
        return cls(*_unpacked(best, middle))

    def posterior(self, side: Moments) -> tuple[FloatVector, FloatVector]:
        """Variance and degrees of freedom of each record, given its own deviations."""
        freedom = self.freedom + np.maximum(side.count - 1, 0)
        variance = (self.freedom * self.variance + side.squares) / freedom
        return np.maximum(variance, SMALLEST_VARIANCE), freedom


@dataclass(frozen=True, slots=True)
class Gaps:
    """Per record: the `expected` gap at its level, the variance of true gaps around it, and that of the estimate."""

    expected: FloatVector
    spread: FloatVector
    noise: FloatVector

    def posterior(self, seen: FloatVector) -> tuple[FloatVector, FloatVector]:
        """Mean and variance of the gap given the one `seen`; NaN where none was."""
        trust = np.where(np.isnan(seen), 0.0, self.spread / np.maximum(self.spread + self.noise, SMALLEST_VARIANCE))
        return self.expected + trust * np.nan_to_num(seen - self.expected), (1 - trust) * self.spread


def predictives(evidence: Evidence, shadows: int) -> tuple[Predictive, Predictive]:
    """Laws of the target's logit if it saw a record, and if not, from the first `shadows` shadows."""
    first, second = halves(evidence, shadows)
    sides = Sides(merged(first.inside, second.inside), merged(first.outside, second.outside))
    seen = _gap(sides)
    expected = gap_trend(_level(sides, seen), seen)
    residual = float(np.nanmean((seen - expected) ** 2))
    (v_in, n_in), (v_out, n_out) = _variances(sides, residual)
    noise = v_in / np.maximum(sides.inside.count, 1) + v_out / np.maximum(sides.outside.count, 1)
    spread = heterogeneity(_gap(first), _gap(second), expected) * expected**2
    # Paired shadows err in opposite directions, so the gap's noise is more than the sides' variances say: rescaled.
    noise *= max((residual - float(spread.mean())) / float(noise.mean()), 0.2)
    gap, gap_variance = Gaps(expected, spread, noise).posterior(seen)
    weight_in, weight_out = sides.inside.count / v_in, sides.outside.count / v_out
    share = weight_in / (weight_in + weight_out)
    mean = (1 - share) * sides.outside.mean + share * (sides.inside.mean - gap)
    mean_variance = 1 / (weight_in + weight_out)
    return (
        Predictive(mean + gap, np.sqrt(v_in + mean_variance + (1 - share) ** 2 * gap_variance), n_in),
        Predictive(mean, np.sqrt(v_out + mean_variance + share**2 * gap_variance), n_out),
    )


def outside_predictive(outside: Moments, mean: FloatVector) -> Predictive:
    """Law of the logit of a model that did not see the record, around `mean`, from outsiders alone."""
    prior = VariancePrior.fit(outside) or VariancePrior(MOST_FREEDOM, 1.0)
    variance, freedom = prior.posterior(outside)
    return Predictive(mean, np.sqrt(variance * (1 + 1 / np.maximum(outside.count, 1))), freedom)


def gap_trend(level: FloatVector, gap: FloatVector) -> FloatVector:
    """Mean gap as a function of the level, at each record; records with a NaN gap are predicted, not used."""
    known = np.flatnonzero(~np.isnan(gap))
    groups = max(1, min(MOST_LEVELS, len(known) // RECORDS_A_LEVEL))
    parts = np.array_split(known[np.argsort(level[known], kind="stable")], groups)
    return np.asarray(np.interp(level, [level[p].mean() for p in parts], [gap[p].mean() for p in parts]))


def heterogeneity(first: FloatVector, second: FloatVector, expected: FloatVector) -> float:
    """c >= 0: variance of true gaps around `expected`, in units of its square, from gaps seen by two halves.

    Least squares of the product of residuals on expected^2. 0 where no record has both sides in both halves.
    """
    known = ~np.isnan(first) & ~np.isnan(second)
    square = expected[known] ** 2
    if not square.any():
        return 0.0
    product = (first[known] - expected[known]) * (second[known] - expected[known])
    return max(0.0, float((square * product).sum() / (square**2).sum()))


def halves(evidence: Evidence, shadows: int) -> tuple[Sides, Sides]:
    """Moments over the first and over the second half of the shadows; pairs (2j, 2j + 1) stay together."""
    middle = shadows // 2 + (shadows // 2) % 2
    first = logit_moments(evidence, middle)
    if middle >= shadows:
        records = len(evidence.records)
        nothing = Moments(np.zeros(records, dtype=np.int64), np.zeros(records), np.zeros(records))
        return first, Sides(nothing, nothing)
    rest = replace(
        evidence,
        shadows=evidence.shadows[middle:shadows],
        shadow_inside=evidence.shadow_inside[middle:shadows],
        population_shadows=evidence.population_shadows[middle:shadows],
        answers={},
    )
    return first, logit_moments(rest, shadows - middle)


def merged(a: Moments, b: Moments) -> Moments:
    """Moments of both sets of shadows together (Chan, Golub and LeVeque 1979)."""
    count = a.count + b.count
    total = np.maximum(count, 1)
    change = b.mean - a.mean
    return Moments(
        count, a.mean + change * b.count / total, a.squares + b.squares + change**2 * a.count * b.count / total
    )


def _unpacked(parameters: FloatVector, middle: float) -> tuple[float, float]:
    """Freedom and variance from their logarithms, the latter relative to `middle`; both kept where they can be."""
    freedom = float(np.exp(np.clip(parameters[0], np.log(0.1), np.log(MOST_FREEDOM))))
    return freedom, float(np.exp(np.clip(parameters[1], -20.0, 20.0))) * middle


def _gap(sides: Sides) -> FloatVector:
    known = (sides.inside.count > 0) & (sides.outside.count > 0)
    return np.where(known, sides.inside.mean - sides.outside.mean, np.nan)


def _level(sides: Sides, gap: FloatVector) -> FloatVector:
    """The middle between the two means; a record with one side only is placed by the average gap."""
    half = float(np.nanmean(gap)) / 2
    alone = np.where(sides.inside.count > 0, sides.inside.mean - half, sides.outside.mean + half)
    return np.where(np.isnan(gap), alone, (sides.inside.mean + sides.outside.mean) / 2)


def _variances(
    sides: Sides, residual: float
) -> tuple[tuple[FloatVector, FloatVector], tuple[FloatVector, FloatVector]]:
    """Variance and degrees of freedom of both sides. With one shadow a side the gaps' residuals are all there is."""
    fitted = [VariancePrior.fit(side) for side in (sides.inside, sides.outside)]
    fallback = next((p for p in fitted if p), VariancePrior(MOST_FREEDOM, max(residual / 2, SMALLEST_VARIANCE)))
    priors = [p or fallback for p in fitted]
    return priors[0].posterior(sides.inside), priors[1].posterior(sides.outside)
