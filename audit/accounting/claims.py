"""From a training record to a claim, and what may be compared with it."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError, IncompatibleError
from ..types import Adjacency, Claim, CurvePoint, Mechanism, Unit
from .accounts import account_dp_sgd
from .curves import PrivacyCurve, check_parameters, dp_sgd_curve, group_curve

DELTA_GRID = tuple(sorted(float(f"{digit}e-{power}") for power in range(3, 13) for digit in (1, 2, 5)))
"""Where the curve of a claim is written down: 1, 2, 5 times 10^-k from 1e-12 to 5e-3, where the PLD resolves it."""


def dp_sgd_claim(
    *,
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    delta: float,
    unit: Unit = Unit.RECORD,
    adjacency: Adjacency = Adjacency.ADD_REMOVE,
    assumes: tuple[str, ...] = (),
) -> Claim:
    """The (epsilon, delta) that `steps` Poisson-subsampled Gaussian steps support, by PLD, with the whole curve.

    Raises `IncompatibleError` without noise, `ConfigError` for parameters out of range or a delta below what the
    PLD resolves.
    """
    check_parameters(noise_multiplier, sample_rate, steps, delta)
    curve = dp_sgd_curve(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps, adjacency=adjacency)
    epsilon = curve.epsilon(delta)
    if math.isinf(epsilon):
        raise ConfigError(
            f"delta {delta:g} is below what the accountant resolves for {steps} steps: use {1e-15 * steps:.1g} or more"
        )
    points = (*_points(curve, [d for d in DELTA_GRID if d != delta]), CurvePoint(delta, epsilon))
    parameters = (
        ("noise_multiplier", float(noise_multiplier)),
        ("sample_rate", float(sample_rate)),
        ("steps", float(steps)),
    )
    return Claim(
        epsilon,
        delta,
        unit,
        adjacency,
        Mechanism("dp-sgd", parameters),
        _accountant_name(),
        tuple(sorted(points, key=lambda p: p.delta)),
        assumes,
    )


def cross_check(claim: Claim) -> dict[str, Any]:
    """The claim against other accountants: `{"pld", "prv", "rdp", "reasons", "agrees"}`.

    `agrees` is false where the claimed epsilon is below the PLD's (which upper-bounds the truth to within 1e-3),
    or where the PLD leaves the range that PRV (to 0.02 above it, Opacus's own error 0.01) and RDP allow. Accountants
    that do not cover the case are None and say nothing.
    """
    mechanism = _dp_sgd_parameters(claim)
    accounts = account_dp_sgd(**mechanism, delta=claim.delta, adjacency=claim.adjacency)
    pld, prv, rdp = accounts.pld, accounts.prv, accounts.rdp
    agrees = (
        claim.epsilon >= pld * (1 - 1e-3) - 1e-6
        and (prv is None or abs(prv - pld) <= 0.02 + 1e-3 * pld)
        and (rdp is None or pld <= rdp * (1 + 1e-3))
    )
    return {"pld": pld, "prv": prv, "rdp": rdp, "reasons": dict(accounts.reasons), "agrees": agrees}


def group_claim(claim: Claim, k: int) -> Claim | None:
    """What `claim` promises for groups of `k` units: the claim with which a canary repeated k times is compared.

    For `dp-sgd` under add-remove a PLD of a mixture of Gaussians (Ganesh 2024, arXiv 2401.10294). For any other
    mechanism group privacy: (k epsilon, delta (e^(k epsilon) - 1) / (e^epsilon - 1)) at each point of the curve
    (Dwork, Roth 2014, section 2.3; Vadhan 2017, lemma 2.2). None where every such delta reaches 1: then nothing is
    promised, and a finding against it is `underpowered`.
    """
    if k < 1:
        raise ConfigError(f"a group has at least one unit, got k = {k}")
    if k == 1:
        return claim
    if claim.mechanism.name == "dp-sgd" and claim.adjacency is Adjacency.ADD_REMOVE:
        curve = group_curve(**_dp_sgd_parameters(claim), group=k)
        points = _points(curve, sorted({*DELTA_GRID, claim.delta}))
    else:
        known = sorted({*claim.curve, CurvePoint(claim.delta, claim.epsilon)}, key=lambda p: p.delta)
        points = [g for g in (_group_point(p, k) for p in known) if g.delta < 1]
    if not points:
        return None
    # The headline stays at the claim's own delta where it is known, else at the smallest delta that is promised.
    headline = next((p for p in points if p.delta == claim.delta), points[0])
    return Claim(
        headline.epsilon,
        headline.delta,
        claim.unit,
        claim.adjacency,
        Mechanism(f"group-{k} of {claim.mechanism.name}", claim.mechanism.parameters),
        f"{claim.accountant}, group of {k}",
        tuple(points),
        claim.assumes,
    )


def group_epsilon(claim: Claim, k: int, delta: float) -> float | None:
    """The epsilon promised at `delta` to groups of `k`; None where nothing is promised there (see `group_claim`)."""
    group = group_claim(claim, k)
    if group is None:
        return None
    try:
        return group.epsilon_at(delta)
    except IncompatibleError:
        return None


def require_comparable(claim: Claim, *, adjacency: Adjacency, unit: Unit, independent_of_size: bool = False) -> None:
    """Raise `IncompatibleError` unless a bound at this `adjacency` and `unit` may be judged against `claim`.

    A zero-out bound refutes an add-remove claim only if `independent_of_size`: sampling rate, steps and divisor are
    shown not to depend on the number of rows, so that removing a row and zeroing it are the same experiment.
    """
    if unit is not claim.unit:
        raise IncompatibleError(
            f"a {unit}-level audit says nothing about a {claim.unit}-level claim: audit per {claim.unit}"
        )
    if adjacency is claim.adjacency:
        return
    if adjacency is Adjacency.ZERO_OUT and claim.adjacency is Adjacency.ADD_REMOVE:
        if independent_of_size:
            return
        raise IncompatibleError(
            "a zero-out bound refutes an add-remove claim only where sample rate, steps and divisor are independent "
            "of the number of rows: fix them from nominal_rows and declare it, or audit by adding and removing"
        )
    raise IncompatibleError(
        f"a bound under {adjacency} cannot be compared with a claim under {claim.adjacency}: "
        f"account for {adjacency} or change the design"
    )


def _group_point(point: CurvePoint, k: int) -> CurvePoint:
    """Group privacy of one (epsilon, delta); the sum of e^(i epsilon), i < k, kept finite."""
    if point.delta == 0:
        return CurvePoint(0.0, k * point.epsilon)
    if point.epsilon == 0:
        return CurvePoint(k * point.delta, 0.0)
    # (e^(k epsilon) - 1) / (e^epsilon - 1), written so that only the leading factor can be large.
    leading = math.exp(min((k - 1) * point.epsilon, 700.0))
    factor = leading * math.expm1(-k * point.epsilon) / math.expm1(-point.epsilon)
    return CurvePoint(point.delta * factor, k * point.epsilon)


def _points(curve: PrivacyCurve, deltas: Sequence[float]) -> list[CurvePoint]:
    """The curve at `deltas`, without those below the accountant's resolution."""
    return [CurvePoint(d, e) for d, e in zip(deltas, curve.epsilons(deltas), strict=True) if math.isfinite(e)]


def _dp_sgd_parameters(claim: Claim) -> dict[str, Any]:
    if claim.mechanism.name != "dp-sgd":
        raise IncompatibleError(
            f"mechanism {claim.mechanism.name!r} has no accountant here: only a dp-sgd claim can be recomputed"
        )
    values = dict(claim.mechanism.parameters)
    missing = {"noise_multiplier", "sample_rate", "steps"} - set(values)
    if missing:
        raise ConfigError(f"dp-sgd claim: the mechanism lacks {', '.join(sorted(missing))}")
    return {
        "noise_multiplier": values["noise_multiplier"],
        "sample_rate": values["sample_rate"],
        "steps": int(values["steps"]),
    }


def _accountant_name() -> str:
    return f"pld (dp-accounting {importlib.metadata.version('dp-accounting')})"
