"""A privacy promise with its fine print."""

# Pydantic copies defaults; ruff knows that only where BaseModel itself is the base.
# ruff: noqa: RUF012

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from .part import Epsilon, Part, Probability


class Mechanism(Part):
    """What adds the noise; parameters are free (`noise_multiplier`, `sample_rate`, `steps`, ...)."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)

    name: str

    def parameters(self) -> dict[str, Any]:
        """All but the name."""
        return dict(self.model_extra or {})


class Point(Part):
    """The mechanism is (epsilon, delta)-DP."""

    delta: Probability
    epsilon: Epsilon


class CrossCheck(Part):
    """Epsilon at the headline delta by other accountants."""

    pld: Epsilon | None = None
    prv: Epsilon | None = None
    rdp: Epsilon | None = None
    gdp: Epsilon | None = None
    reasons: dict[str, str] = {}
    agrees: bool | None = None


class Claim(Part):
    """A privacy promise with its fine print; `tested` is the point of its curve that the audit tests."""

    trainer: str
    epsilon: Epsilon
    delta: Probability
    unit: str
    adjacency: str
    mechanism: Mechanism
    accountant: str
    curve: list[Point] = []
    assumes: list[str] = []
    cross_check: CrossCheck | None = None
    tested: Point | None = None
