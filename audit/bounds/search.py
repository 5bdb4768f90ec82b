"""Where a monotone condition stops holding."""

from __future__ import annotations

from collections.abc import Callable


def last_true(holds: Callable[[float], bool], low: float, high: float, *, tolerance: float = 1e-12) -> float:
    """The largest x in [low, high], from below and to within `tolerance`, with `holds(x)`.

    `holds` is true up to some point and false after it; `holds(low)` is taken as given. The answer always holds.
    """
    while high - low > tolerance * max(1.0, abs(low)):
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def first_power_of_two(stops: Callable[[float], bool], *, start: float = 1.0, limit: float = 2.0**20) -> float:
    """The first of start, 2 start, 4 start, ... with `stops(x)`, at most `limit`: an upper end for `last_true`."""
    x = start
    while x < limit and not stops(x):
        x *= 2
    return x


def first_positive(function: Callable[[float], float], low: float, high: float, *, tolerance: float) -> float:
    """The smallest x in [low, high], from above and to within 2 `tolerance`, where the increasing `function` is
    positive. For functions too dear to bisect; `high` is returned where the function is positive nowhere below it."""
    from scipy.optimize import brentq

    if function(low) > 0:
        return low
    if function(high) <= 0:
        return high
    x = float(brentq(function, low, high, xtol=tolerance))
    while x < high and function(x) <= 0:
        x += tolerance
    return min(x, high)
