from __future__ import annotations

import json

import pytest

from leakgauge.audit.claims_json import claim_from_json, claim_to_json
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.types import Adjacency, Claim, CurvePoint, Mechanism, Unit

FULL = Claim(
    epsilon=3.0,
    delta=1e-5,
    unit=Unit.USER,
    adjacency=Adjacency.ZERO_OUT,
    mechanism=Mechanism("dp-sgd", (("noise_multiplier", 1.0), ("sample_rate", 0.1), ("steps", 20.0))),
    accountant="pld",
    curve=(CurvePoint(1e-6, 3.5), CurvePoint(1e-5, 3.0)),
    assumes=("one", "two"),
)


@pytest.mark.parametrize("claim", [FULL, Claim(0.0, 0.0)])
def test_round_trip_through_text(claim: Claim) -> None:
    assert claim_from_json(json.loads(json.dumps(claim_to_json(claim)))) == claim


def test_extra_keys_are_ignored() -> None:
    assert claim_from_json({**claim_to_json(FULL), "trainer": "dp-sgd"}) == FULL


@pytest.mark.parametrize(
    "document", [{}, {"epsilon": 1}, {"epsilon": "x", "delta": 0}, {"epsilon": 1, "delta": 0, "unit": "planet"}]
)
def test_unreadable(document: dict) -> None:
    with pytest.raises(ConfigError, match="claim"):
        claim_from_json(document)
