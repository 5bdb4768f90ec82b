"""The contract of bounds: wrong no more often than said, never above the ceiling, rising with right guesses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from ..bounds.counts import ConfusionCounts, GuessCounts
from ..metrics import clopper_pearson
from ..seeds import Seeds
from ..types import Bound, Validity
from .failure import require

Draw = Callable[[float, np.random.Generator], Any]
"""True epsilon and randomness to the counts of one audit."""
EPSILONS = (0.0, 1.0, 3.0)
SLACK = 1e-9
CERTAINTY = 0.9998
"""A sound bound fails the coverage check with probability at most 1e-4 for each epsilon."""


def check_bound(
    method: Any,
    *,
    seeds: Seeds,
    draw: Draw | None = None,
    delta: float = 0.0,
    alpha: float = 0.05,
    trials: int = 2000,
    epsilons: Sequence[float] = EPSILONS,
) -> None:
    """Check a bound by simulated audits of mechanisms whose epsilon is known.

    For guess and confusion counts, randomized response is simulated, which is as bad as (epsilon, 0)-DP allows. For
    counts of your own give `draw`. A method whose validity at `delta` is neither frequentist nor anytime promises no
    coverage, and none is checked. Raises `ContractError` with the first promise that is broken.
    """
    name = f"bound {getattr(method, 'name', method)!r}"
    for attribute in ("name", "counts_type", "null_class", "validity", "epsilon_lower", "ceiling", "certify"):
        require(hasattr(method, attribute), f"{name}: it has no {attribute}")
    outcome = draw or _draws(method, name)
    generator = seeds.generator()
    _check_one(method, outcome(1.0, generator), delta, alpha, name)
    if method.counts_type in {GuessCounts, ConfusionCounts} and draw is None:
        _check_monotone(method, outcome(1.0, generator), delta, alpha, name)
    if method.validity(delta) not in {Validity.FREQUENTIST, Validity.ANYTIME}:
        return
    for epsilon in epsilons:
        bounds = [method.epsilon_lower(outcome(epsilon, generator), delta=delta, alpha=alpha) for _ in range(trials)]
        wrong = int(np.sum(np.asarray(bounds) > epsilon + SLACK))
        low, _ = clopper_pearson(wrong, trials, CERTAINTY)
        require(
            float(low) <= alpha,
            f"{name}: above the true epsilon {epsilon:g} in {wrong} of {trials} audits, promised is alpha {alpha:g}",
        )


def _check_one(method: Any, counts: Any, delta: float, alpha: float, name: str) -> None:
    value = method.epsilon_lower(counts, delta=delta, alpha=alpha)
    require(np.isfinite(value) and value >= 0, f"{name}: epsilon_lower must be finite and not negative, got {value}")
    ceiling = method.ceiling(counts, delta=delta, alpha=alpha)
    require(value <= ceiling + SLACK, f"{name}: {value:.6g} is above its own ceiling {ceiling:.6g}")
    stricter = method.epsilon_lower(counts, delta=delta, alpha=alpha / 10)
    require(stricter <= value + 1e-6, f"{name}: more at a smaller alpha ({stricter:.6g} above {value:.6g})")
    whole = method.certify(counts, delta=delta, confidence=1 - alpha)
    require(isinstance(whole, Bound), f"{name}: certify must return a Bound, got {type(whole).__name__}")
    require(abs(whole.epsilon - value) <= 1e-6, f"{name}: certify says {whole.epsilon:.6g}, epsilon_lower {value:.6g}")


def _check_monotone(method: Any, counts: Any, delta: float, alpha: float, name: str) -> None:
    field, most = ("correct", counts.guesses) if isinstance(counts, GuessCounts) else ("true_positives", counts.members)
    steps = np.unique(np.linspace(0, most, 12).astype(int)).tolist()
    values = [method.epsilon_lower(replace(counts, **{field: k}), delta=delta, alpha=alpha) for k in steps]
    if field == "true_positives":
        # Two-sided methods also read the reversed test, so only the upper half must rise.
        values = [v for v, k in zip(values, steps, strict=True) if k >= most / 2]
    falls = [b < a - 1e-6 for a, b in pairwise(values)]
    require(not any(falls), f"{name}: more {field.replace('_', ' ')} certify less")


def _draws(method: Any, name: str) -> Draw:
    def right(epsilon: float) -> float:
        return float(1 / (1 + np.exp(-epsilon)))

    if method.counts_type is GuessCounts:
        return lambda epsilon, g: GuessCounts(400, 100, int(g.binomial(100, right(epsilon))))
    require(
        method.counts_type is ConfusionCounts,
        f"{name}: no simulation is known for {method.counts_type.__name__}; give draw(epsilon, generator)",
    )
    return lambda epsilon, g: ConfusionCounts(
        int(g.binomial(300, right(epsilon))), int(g.binomial(300, 1 - right(epsilon))), 300, 300
    )
