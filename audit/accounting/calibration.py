"""The least noise that keeps a promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from scipy.optimize import brentq

from ..bounds.gaussian import gaussian_epsilon
from ..errors import ConfigError
from ..types import Adjacency
from .curves import check_parameters, dp_sgd_curve

_TOLERANCE = 1e-4
_MOST_NOISE = 1e6
_LEAST_NOISE = 1e-2


@lru_cache(maxsize=256)
def calibrate_noise(
    *,
    epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    adjacency: Adjacency = Adjacency.ADD_REMOVE,
) -> float:
    """The smallest noise multiplier (to 1e-4 of itself, rounded up) whose PLD epsilon at `delta` is at most `epsilon`.

    `dp_sgd_claim` at the result promises `epsilon` or less. Raises `ConfigError` for an epsilon that no noise
    multiplier in [0.01, 1e6] reaches.
    """
    check_parameters(1.0, sample_rate, steps, delta)
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise ConfigError(f"epsilon must be a positive finite number to calibrate noise, got {epsilon}")

    def excess(log_noise: float, coarseness: float) -> float:
        curve = dp_sgd_curve(
            noise_multiplier=math.exp(log_noise),
            sample_rate=sample_rate,
            steps=steps,
            adjacency=adjacency,
            coarseness=coarseness,
        )
        spent = curve.epsilon(delta)
        return math.log(max(spent, 1e-300) / epsilon) if math.isfinite(spent) else 700.0

    # The coarse grid is ten times faster, so the search runs there and the fine grid only settles the last digits.
    low, high = _bracket(lambda x: excess(x, 10.0), math.log(_guess(min(epsilon, 1e4), delta, sample_rate, steps)))
    root = float(brentq(lambda x: excess(x, 10.0), low, high, xtol=2e-6))
    slope = (excess(root + 0.01, 10.0) - excess(root, 10.0)) / 0.01
    return math.exp(_settle(lambda x: excess(x, 1.0), root, min(slope, -0.05)))


def _guess(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The noise at which the central limit gives `epsilon`: a place to start, not a bound."""
    mu = float(brentq(lambda m: gaussian_epsilon(m, delta) - epsilon, 0.0, math.sqrt(2 * epsilon) + 2 * epsilon + 40))
    exponent = math.log1p((mu / sample_rate) ** 2 / steps)
    return float(min(max(exponent**-0.5, _LEAST_NOISE), _MOST_NOISE))


def _bracket(excess: Callable[[float], float], start: float) -> tuple[float, float]:
    """Log noise multipliers around the root, found by growing steps from `start`."""
    width = 0.1
    value = excess(start)
    direction = 1.0 if value > 0 else -1.0
    near = start
    while math.log(_LEAST_NOISE) <= near <= math.log(_MOST_NOISE):
        far = near + direction * width
        if (excess(far) > 0) != (value > 0):
            return (near, far) if far > near else (far, near)
        near, width = far, width * 2
    raise ConfigError(
        f"no noise multiplier in [{_LEAST_NOISE:g}, {_MOST_NOISE:g}] meets this epsilon: change epsilon, delta or steps"
    )


def _settle(excess: Callable[[float], float], root: float, slope: float) -> float:
    """The log noise, feasible and within the tolerance of an infeasible one; `slope` is d log epsilon / d log noise.

    Newton steps aimed a little past the root on the side still missing; they end after two or three evaluations.
    """
    low, high = -math.inf, math.inf
    guess = root
    for _ in range(60):
        value = excess(guess)
        low, high = (max(low, guess), high) if value > 0 else (low, min(high, guess))
        if high - low <= _TOLERANCE:
            return high
        margin = 0.45 * _TOLERANCE
        guess = guess - value / slope + (margin if math.isinf(high) else -margin if math.isinf(low) else 0.0)
        if not low < guess < high:
            guess = (low + high) / 2
    return high
