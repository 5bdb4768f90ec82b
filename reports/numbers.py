"""Numbers as a reader sees them, the same in every format. Rounding never flatters an audit.

A certified bound and a ceiling are rounded down, a claim is rounded up: printed figures never say more than was shown.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from .model import Interval

DIGITS = 4
MISSING = "–"


def number(value: float | int | None, rounding: str = ROUND_HALF_EVEN, digits: int = DIGITS) -> str:
    """`value` to `digits` significant digits, without trailing zeros; tiny and huge ones as `1e-6`; null as a dash."""
    if value is None:
        return MISSING
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if value == 0:
        return "0"
    exact = Decimal(repr(float(value)))
    exponent = math.floor(math.log10(abs(value)))
    rounded = exact.quantize(Decimal(1).scaleb(exponent - digits + 1), rounding=rounding)
    if rounded != 0 and not Decimal("1e-3") <= abs(rounded) < Decimal("1e6"):
        mantissa, _, power = f"{rounded:e}".partition("e")
        return f"{_trim(mantissa)}e{int(power)}"
    return _trim(f"{rounded:f}")


def shown(value: float | None) -> str:
    """A certified bound or a ceiling: rounded down, so that print never certifies more than the audit did."""
    return number(value, ROUND_FLOOR)


def claimed(value: float | None) -> str:
    """A claimed epsilon: rounded up, so that print never makes a claim stricter than it is."""
    return number(value, ROUND_CEILING)


def interval(value: Interval | float | None) -> str:
    """`0.683 [0.651, 0.715]`; the value alone when there is no interval."""
    if not isinstance(value, Interval):
        return number(value, digits=3)
    if value.value is None or value.low is None or value.high is None:
        return number(value.value, digits=3)
    return f"{number(value.value, digits=3)} [{number(value.low, digits=3)}, {number(value.high, digits=3)}]"


def percent(value: float | None) -> str:
    """A confidence: 0.95 is `95%`, 0.999 is `99.9%`."""
    return MISSING if value is None else f"{Decimal(repr(float(value))) * 100:f}".rstrip("0").rstrip(".") + "%"


def seconds(value: float | None) -> str:
    """A duration in seconds, or minutes from 120 s on."""
    if value is None:
        return MISSING
    return f"{value / 60:.1f} min" if value >= 120 else f"{value:.1f} s"


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
