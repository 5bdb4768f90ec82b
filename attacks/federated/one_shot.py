"""One-shot empirical privacy: epsilon read off two fitted normal laws. An estimate; it never decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from ...audit.canaries import CanaryHost, CanarySet
from ...audit.errors import IncompatibleError
from ...audit.games import Measure, Outcome, Stage
from ...audit.seeds import Seeds
from ...audit.types import Access, Needs, Unit
from ..parameters import require_choice, require_integer, require_number

BOOTSTRAPS = 200


@dataclass(frozen=True, slots=True)
class Normal:
    """A normal law, `deviation` > 0."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OneShot:
    """Insert half of `canaries` random-direction clients in one training and fit normal laws to the projections of
    those inside and those outside; epsilon at `delta` of that pair of laws, the larger of both directions.

    Andrew et al. (2024, arXiv 2302.03098): `view` "final-model" is its algorithm 1, "global-models" takes each canary's
    largest projection over the rounds, as its algorithm 2. The interval is a parametric bootstrap under the fit. It
    rests on the fit and on one design of canary, so that it is an estimate of what these canaries give away, above or
    below the true epsilon, and not a bound.
    """

    name: ClassVar[str] = "one-shot"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "estimate"

    canaries: int = 1000
    view: Literal["final-model", "global-models"] = "final-model"
    delta: float = 1e-5

    def __post_init__(self) -> None:
        require_integer(self.name, "canaries", self.canaries, least=20)
        require_choice(self.name, "view", self.view, ("final-model", "global-models"))
        require_number(self.name, "delta", self.delta, low=1e-15, high=0.5)

    @property
    def needs(self) -> Needs:
        """The last model, or all of them."""
        return Needs(access=Access.WEIGHTS if self.view == "final-model" else Access.TRANSCRIPT)

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """As in `Game`."""
        if not isinstance(stage.trainer, CanaryHost) or "client-random" not in stage.trainer.hosts():
            raise IncompatibleError(f"attack {self.name!r} needs a trainer that inserts 'client-random' canaries")
        inside = seeds.at("coins").generator().random(self.canaries) < 0.5
        canaries = CanarySet("client-random", inside, Unit.CLIENT, self.view)
        seen = stage.trainer.fit_with_canaries(
            stage.private, stage.inside, canaries, seeds=seeds.at("model"), device=stage.device, progress=stage.progress
        )
        values = np.asarray(seen.transcript["projections"], np.float64).max(axis=0)
        laws = fitted(values[inside]), fitted(values[~inside])
        epsilon = normal_epsilon(*laws, delta=self.delta)
        generator, counts = seeds.at("bootstrap").generator(), (int(inside.sum()), int((~inside).sum()))
        again = [
            normal_epsilon(*(redrawn(law, n, generator) for law, n in zip(laws, counts, strict=True)), delta=self.delta)
            for _ in range(BOOTSTRAPS)
        ]
        tail = (1 - stage.confidence) / 2
        low, high = np.quantile(again, [tail, 1 - tail])
        claimed = None if seen.claim is None else f"{seen.claim.epsilon:g} at delta {seen.claim.delta:g}"
        return Outcome(
            measures={"one_shot_epsilon": Measure(epsilon, float(low), float(high), n=self.canaries, unit="epsilon")},
            threat={
                "attacker": f"an observer of {self.view}",
                "knows": "every canary's direction; the fit uses the coins",
            },
            notes=(
                "an estimate under fitted normal laws at delta "
                f"{self.delta:g}: it never decides a verdict; the run claims epsilon {claimed or 'nothing'}",
            ),
        )


def fitted(values: NDArray[np.float64]) -> Normal:
    """Mean and deviation of a sample; a constant sample keeps a tiny deviation."""
    return Normal(float(values.mean()), max(float(values.std(ddof=1)), 1e-12))


def redrawn(law: Normal, count: int, generator: np.random.Generator) -> Normal:
    """The fit to a fresh sample of `law`."""
    return fitted(generator.normal(law.mean, law.deviation, count))


def normal_epsilon(one: Normal, other: Normal, *, delta: float) -> float:
    """The smallest epsilon at which two normal laws are (epsilon, delta)-indistinguishable, both ways; 0 if always.

    delta(epsilon) = P(A) - e^epsilon Q(A) over A = {ln p/q > epsilon}, a half-line or the inside or outside of an
    interval, since the log-ratio is a quadratic.
    """

    def excess(epsilon: float) -> float:
        return max(_hockey_stick(one, other, epsilon), _hockey_stick(other, one, epsilon)) - delta

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0 and high < 1e6:
        high *= 2
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-9)) if high < 1e6 else float("inf")


def _hockey_stick(p: Normal, q: Normal, epsilon: float) -> float:
    """sup_A P(A) - e^epsilon Q(A)."""
    # ln p/q = a x^2 + b x + c
    a = 1 / (2 * q.deviation**2) - 1 / (2 * p.deviation**2)
    b = p.mean / p.deviation**2 - q.mean / q.deviation**2
    c = (
        q.mean**2 / (2 * q.deviation**2)
        - p.mean**2 / (2 * p.deviation**2)
        + np.log(q.deviation / p.deviation)
        - epsilon
    )
    if abs(a) < 1e-12 * (1 / p.deviation**2):
        if abs(b) < 1e-300:
            return max(0.0, 1 - np.exp(epsilon)) if c > 0 else 0.0
        edge = -c / b
        return _masses(p, q, epsilon, [(edge, np.inf)] if b > 0 else [(-np.inf, edge)])
    discriminant = b * b - 4 * a * c
    if discriminant <= 0:
        return _masses(p, q, epsilon, [(-np.inf, np.inf)]) if a > 0 else 0.0
    low, high = sorted(((-b - np.sqrt(discriminant)) / (2 * a), (-b + np.sqrt(discriminant)) / (2 * a)))
    return _masses(p, q, epsilon, [(-np.inf, low), (high, np.inf)] if a > 0 else [(low, high)])


def _masses(p: Normal, q: Normal, epsilon: float, pieces: list[Any]) -> float:
    """P - e^epsilon Q of a union of disjoint intervals, with the smaller tail kept exact."""

    def mass(law: Normal, low: float, high: float) -> float:
        x, y = (low - law.mean) / law.deviation, (high - law.mean) / law.deviation
        return float(special.ndtr(y) - special.ndtr(x)) if x < 0 else float(special.ndtr(-x) - special.ndtr(-y))

    inside = sum(mass(p, *piece) for piece in pieces)
    other = sum(mass(q, *piece) for piece in pieces)
    return inside - float(np.exp(min(epsilon, 700.0))) * other
