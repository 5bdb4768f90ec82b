"""Seeds that cost nothing: the exact law of the white-box game, and laws that the comparison does not assume."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..attacks.canary.gradient_finding import gradient_finding
from ..audit.accounting import dp_sgd_claim
from ..audit.bounds import GuessCounts
from ..audit.claims_json import claim_to_json
from ..audit.comparison.figures import Observation, proportion
from ..audit.comparison.holm import holm
from ..audit.comparison.prediction import Prediction
from ..audit.design import CoinTrials
from ..audit.seeds import Seeds
from ..audit.selftest.mechanisms import SubsampledGaussian
from ..audit.types import Claim
from .whitebox import MANY, MANY_PLAN, NOISE, RATE, STEPS

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Law:
    """How figures vary between seeds. `promised`: the rate of false alarms is to hold; elsewhere it is reported."""

    draw: Draw
    promised: bool


def _contaminated(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    wild = generator.random(count) < 0.1
    return np.asarray(generator.standard_normal(count) * np.where(wild, 5.0, 1.0))


LAWS: Mapping[str, Law] = {
    "normal": Law(lambda g, n: g.standard_normal(n), True),
    "binomial, 500 guesses, 0.72 right": Law(lambda g, n: g.binomial(500, 0.72, n).astype(np.float64), True),
    "binomial, 300 members, 0.02 found": Law(lambda g, n: g.binomial(300, 0.02, n).astype(np.float64), True),
    "Laplace": Law(lambda g, n: g.laplace(size=n), False),
    "Student, 3 degrees of freedom": Law(lambda g, n: g.standard_t(3, n), False),
    "log-normal, sigma 0.5 (skewed up)": Law(lambda g, n: g.lognormal(0.0, 0.5, n), False),
    "normal, one seed in ten 5 times as wide": Law(_contaminated, False),
}
"""Between-seed laws on the scale of the comparison; binomial ones are counts and pass through it."""


def false_alarms(
    law: str, k: int, findings: int, confidences: Sequence[float], trials: int, *, seeds: Seeds
) -> dict[float, int]:
    """How many of `trials` comparisons of k seeds with one more of the same law fail, by confidence."""
    generator = seeds.generator()
    failed = dict.fromkeys(confidences, 0)
    for _ in range(trials):
        drawn = LAWS[law].draw(generator, findings * (k + 1)).reshape(findings, k + 1).tolist()
        rows = [[_observe(law, value) for value in row] for row in drawn]
        p_values = [Prediction.of(row[1:]).p_value(row[0]) for row in rows]
        for confidence in confidences:
            failed[confidence] += any(d.rejected for d in holm(p_values, 1 - confidence))
    return failed


def _observe(law: str, value: float) -> Observation:
    if law.startswith("binomial"):
        return proportion(round(value), 500 if "500" in law else 300)
    return Observation(value, value, 0.0, math.inf, 1)


def white_box_run(seeds: Seeds, halved: bool) -> dict[str, Any]:
    """One white-box audit drawn from its exact law instead of trained: scores of the optimal attack, fair coins.

    The claim is that of the full noise in any case. Scores are likelihood ratios at the noise that is there, which
    `llr-measured` attains (docs/whitebox.md); the real runs beside this check it.
    """
    mechanism = SubsampledGaussian(RATE, NOISE / 2 if halved else NOISE, STEPS, MANY_PLAN.delta)
    generator = seeds.generator()
    inside = generator.random(MANY.count) < 0.5
    trials = CoinTrials(mechanism.score(inside, generator), inside, tuple(map(str, range(MANY.count))))
    perfect = GuessCounts(MANY.count, MANY_PLAN.guesses, MANY_PLAN.guesses)
    return run_document([gradient_finding(trials, claim(), MANY_PLAN, twin=perfect, steps=STEPS)], claim(), seeds)


def run_document(findings: Sequence[Mapping[str, Any]], promised: Claim, seeds: Seeds) -> dict[str, Any]:
    """As much of an `audit.json` as a comparison reads."""
    return {
        "name": "white-box",
        "system": {"leakgauge": "", "trainers": [{"id": "dp-sgd", "name": "dp-sgd", "spec": {}}]},
        "claims": [{"trainer": "dp-sgd", **claim_to_json(promised)}],
        "access": ["transcript"],
        "design": {"sampling": "coin", "confidence": MANY_PLAN.confidence},
        "findings": list(findings),
        "provenance": {"seed": seeds.integer()},
    }


@functools.cache
def claim() -> Claim:
    """What the full noise promises."""
    return dp_sgd_claim(noise_multiplier=NOISE, sample_rate=RATE, steps=STEPS, delta=1e-5)
