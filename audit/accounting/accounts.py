"""Theoretical epsilon of DP-SGD by every accountant, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..bounds.gaussian import gaussian_epsilon
from ..errors import PrerequisiteError
from ..types import Adjacency
from . import opacus_files
from .curves import check_parameters, dp_sgd_curve, renyi_epsilons


@dataclass(frozen=True, slots=True)
class Accounts:
    """Epsilon by four accountants; None where one does not cover the case, with the reason.

    `pld` is the figure to use. `prv` and `rdp` are upper bounds that check it. `gdp` (central limit) is neither an
    upper nor a lower bound: at noise 0.5, rate 0.01, 100 steps it says 3.06 where the truth is 6.48.
    """

    pld: float
    prv: float | None
    rdp: float | None
    gdp: float | None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The dictionary of DESIGN 5."""
        return {
            "pld": self.pld,
            "prv": self.prv,
            "rdp": self.rdp,
            "gdp": self.gdp,
            "not_upper_bounds": ["gdp"],
            "reasons": dict(self.reasons),
        }


def account_dp_sgd(
    *,
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    delta: float,
    adjacency: Adjacency = Adjacency.ADD_REMOVE,
) -> Accounts:
    """Epsilon at `delta` of `steps` Poisson-subsampled Gaussian steps, by PLD, PRV, RDP and CLT-GDP.

    Raises `ConfigError` for parameters out of range and `IncompatibleError` without noise. An accountant that fails
    gives None and a reason; the PLD is never optional.
    """
    check_parameters(noise_multiplier, sample_rate, steps, delta)
    curve = dp_sgd_curve(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps, adjacency=adjacency)
    pld = curve.epsilon(delta)
    if adjacency is Adjacency.REPLACE_ONE:
        return _replace_one(pld, noise_multiplier, sample_rate, steps, delta)
    reasons: dict[str, str] = {}
    prv = _try("prv", opacus_files.prv_epsilon, noise_multiplier, sample_rate, steps, delta, reasons)
    rdp = _renyi(noise_multiplier, sample_rate, steps, delta)
    return Accounts(pld, prv, rdp, gdp_epsilon(noise_multiplier, sample_rate, steps, delta), reasons)


def gdp_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float | None:
    """The central-limit GDP figure (Bu, Dong, Long, Su 2020, arXiv 1911.11607): mu = q sqrt(T (e^(1/s^2) - 1)).

    No bound in either direction. None where mu overflows.
    """
    exponent = noise_multiplier**-2
    if exponent > 500:
        return None
    return gaussian_epsilon(sample_rate * math.sqrt(steps * math.expm1(exponent)), delta)


def _replace_one(pld: float, noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> Accounts:
    """Replacing a record is another pair of distributions, which PRV, GDP and subsampled RDP do not compute."""
    reasons = {
        "prv": "Opacus's PRV computes the remove pair only",
        "gdp": "the central-limit formula is for add-remove",
    }
    rdp: float | None = None
    if sample_rate == 1:  # The full-batch step moves by 2C instead of C: half the noise.
        rdp = _renyi(noise_multiplier / 2, 1.0, steps, delta)
    else:
        reasons["rdp"] = "no Renyi bound for Poisson sampling under replace-one"
    return Accounts(pld, None, rdp, None, reasons)


def _renyi(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Opacus's exact fractional orders; where they overflow, those of `dp_accounting`."""
    exact = _try("rdp", opacus_files.rdp_epsilon, noise_multiplier, sample_rate, steps, delta, {})
    return renyi_epsilons(noise_multiplier, sample_rate, steps, (delta,))[0] if exact is None else exact


def _try(
    name: str,
    account: Callable[[float, float, int, float], float],
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    delta: float,
    reasons: dict[str, str],
) -> float | None:
    """The accountant's epsilon, or None with the failure written into `reasons`: a cross-check never stops a run."""
    try:
        return account(noise_multiplier, sample_rate, steps, delta)
    except (ValueError, RuntimeError, ArithmeticError, MemoryError, PrerequisiteError) as error:
        reasons[name] = f"{type(error).__name__}: {error}"
        return None
