"""The exact trade-off curve of DP-SGD(q, T) at one noise multiplier: concave hull of the add and the remove curve."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

POINTS = 801


@dataclass(frozen=True, slots=True)
class TradeOffCurve:
    """fbar(x): the largest true positive rate at false positive rate x, for either neighbour as the null.

    By duality it is the minimum of the lines delta(e) + e^e x and 1 - e^-e (1 - delta(e) - x) over e >= 0, delta(e)
    the larger of the add and the remove profile; the minimum over the stored e only can but overstate fbar, which
    makes the bounds built on it smaller. `deltas` and `growth` (e^e) are (points,).
    """

    deltas: NDArray[np.float64]
    growth: NDArray[np.float64]

    def inverse(self, rate: float) -> float:
        """The smallest false positive rate at which `rate` true positives are possible."""
        steep = np.max((rate - self.deltas) / self.growth)
        flat = np.max(1 - self.deltas - self.growth * (1 - rate))
        return float(min(1.0, max(0.0, steep, flat)))


@functools.lru_cache(maxsize=256)
def dp_sgd_curve(noise_multiplier: float, sample_rate: float, steps: int, interval: float) -> TradeOffCurve:
    """The curve from the privacy loss distribution on a grid of losses `interval` apart (rounded pessimistically)."""
    loss = _loss_distribution(noise_multiplier, sample_rate, steps, interval)
    farthest = min(float(loss.get_epsilon_for_delta(1e-10)), 600.0)
    if not math.isfinite(farthest):
        farthest = 600.0
    epsilons = np.linspace(0.0, max(farthest, 10 * interval), POINTS)
    deltas = np.asarray(loss.get_delta_for_epsilon(epsilons), dtype=np.float64)
    return TradeOffCurve(deltas, np.exp(epsilons))


@functools.lru_cache(maxsize=1024)
def dp_sgd_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float, interval: float) -> float:
    """Epsilon at `delta`, add-remove adjacency: the larger of the add and the remove profile."""
    return float(_loss_distribution(noise_multiplier, sample_rate, steps, interval).get_epsilon_for_delta(delta))


# Two, because the search asks for the curve and then for epsilon at one noise multiplier; each can hold 100 MB.
@functools.lru_cache(maxsize=2)
def _loss_distribution(noise_multiplier: float, sample_rate: float, steps: int, interval: float) -> Any:
    from dp_accounting.pld import privacy_loss_distribution

    one_step = privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier,
        sampling_prob=sample_rate,
        value_discretization_interval=interval,
        use_connect_dots=True,
    )
    return one_step.self_compose(steps)
