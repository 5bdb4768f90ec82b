"""A claim as plain JSON values and back, so that stored models, configurations and reports carry it whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import ConfigError
from .types import Adjacency, Claim, CurvePoint, Mechanism, Unit


def claim_to_json(claim: Claim) -> dict[str, Any]:
    """A dictionary of JSON values. `claim_from_json` gives the equal claim.

    >>> claim_from_json(claim_to_json(Claim(3.0, 1e-5))) == Claim(3.0, 1e-5)
    True
    """
    return {
        "epsilon": claim.epsilon,
        "delta": claim.delta,
        "unit": str(claim.unit),
        "adjacency": str(claim.adjacency),
        "mechanism": {"name": claim.mechanism.name, "parameters": dict(claim.mechanism.parameters)},
        "accountant": claim.accountant,
        "curve": [{"delta": point.delta, "epsilon": point.epsilon} for point in claim.curve],
        "assumes": list(claim.assumes),
    }


def claim_from_json(document: Mapping[str, Any]) -> Claim:
    """The claim in a dictionary made by `claim_to_json`; keys it does not know are ignored (reports add to it).

    Raises `ConfigError` when epsilon or delta is missing or a value is of the wrong kind.
    """
    try:
        mechanism = document.get("mechanism") or {}
        return Claim(
            epsilon=float(document["epsilon"]),
            delta=float(document["delta"]),
            unit=Unit(document.get("unit", Unit.RECORD)),
            adjacency=Adjacency(document.get("adjacency", Adjacency.ADD_REMOVE)),
            mechanism=Mechanism(
                str(mechanism.get("name", "unknown")),
                tuple((str(k), float(v)) for k, v in mechanism.get("parameters", {}).items()),
            ),
            accountant=str(document.get("accountant", "declared")),
            curve=tuple(CurvePoint(float(p["delta"]), float(p["epsilon"])) for p in document.get("curve", ())),
            assumes=tuple(str(line) for line in document.get("assumes", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"claim: cannot be read ({type(error).__name__}: {error}); it needs epsilon and delta"
        ) from None
