"""Checks of attack parameters and evidence at the edge: messages name the attack, the value seen and the remedy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..audit.errors import ConfigError, IncompatibleError
from ..audit.types import Evidence


def require_integer(attack: str, key: str, value: object, *, least: int) -> None:
    """Refuse anything but an integer of at least `least` (a bool is not an integer here)."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"attack {attack!r}: {key} must be an integer >= {least}, got {value!r}")


def require_number(attack: str, key: str, value: object, *, low: float, high: float = math.inf) -> None:
    """Refuse anything but a finite number in [low, high]."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(float(value)) or not low <= float(value) <= high:  # type: ignore[arg-type]
        where = f"at least {low:g}" if math.isinf(high) else f"in [{low:g}, {high:g}]"
        raise ConfigError(f"attack {attack!r}: {key} must be a number {where}, got {value!r}")


def require_choice(attack: str, key: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value outside `choices`."""
    if value not in choices:
        raise ConfigError(f"attack {attack!r}: {key} must be one of {', '.join(choices)}, got {value!r}")


def require_shadows(attack: str, key: str, evidence: Evidence, wanted: int) -> None:
    """Refuse evidence with fewer shadow models than the attack was configured for; more are fine and left unread."""
    seen = len(evidence.shadows)
    if seen < wanted:
        raise IncompatibleError(
            f"attack {attack!r} needs {wanted} shadow models, the evidence has {seen}: "
            f"train more or set {key} to at most {seen}"
        )
