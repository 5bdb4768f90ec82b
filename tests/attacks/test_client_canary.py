from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from leakgauge.attacks.canary.client import ClientCanary
from leakgauge.audit.canaries import CanaryAttack, CanaryEvidence
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.metrics.auc import auc
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access, Unit

COUNT, ROUNDS, RATE, NOISE = 2000, 100, 0.05, 1.0


def evidence(transcript: Mapping[str, Any], noise: float = NOISE, count: int = COUNT) -> CanaryEvidence:
    ids = ClientCanary(canaries=count).canary_set(np.zeros(count, bool)).ids
    public = {"sample_rate": RATE, "noise_multiplier": noise}
    return CanaryEvidence(ids, transcript, public, Access.TRANSCRIPT, Unit.CLIENT)


@pytest.fixture(scope="module")
def game() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = Seeds(4).generator()
    inside = generator.random(COUNT) < 0.5
    took_part = generator.random((ROUNDS, COUNT)) < RATE
    projections = took_part * inside + NOISE * generator.normal(size=(ROUNDS, COUNT))
    return inside, took_part, projections.astype(np.float32)


def scored(attack: ClientCanary, seen: CanaryEvidence) -> np.ndarray:
    return attack.score_canaries(seen, seeds=Seeds(1)).values


def test_it_is_a_canary_attack_on_clients() -> None:
    attack = ClientCanary(canaries=7, view="sum", strength=3.0)
    assert isinstance(attack, CanaryAttack)
    asked = attack.canary_set(np.ones(7, bool))
    assert (asked.unit, asked.view, asked.kind) == (Unit.CLIENT, "sum", "client-orthogonal")
    assert asked.parameters == {"strength": 3.0}
    assert attack.needs.access is Access.TRANSCRIPT
    assert ClientCanary(view="final-model").needs.access is Access.WEIGHTS
    assert "secure sum" in attack.threat()["attacker"]


def test_the_likelihood_ratio_beats_the_sum_and_knowing_who_takes_part_beats_both(
    game: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    inside, took_part, projections = game
    hidden = evidence({"projections": projections})
    ranks = {s: auc(scored(ClientCanary(statistic=s), hidden), inside) for s in ("llr-measured", "llr", "sum", "max")}
    assert abs(ranks["llr-measured"] - ranks["llr"]) < 0.01
    assert ranks["llr"] > ranks["sum"]
    known = evidence({"projections": projections, "participating": took_part})
    assert auc(scored(ClientCanary(view="sum"), known), inside) > ranks["llr"] + 0.05


def test_the_score_of_known_rounds_orders_as_the_exact_likelihood_ratio(
    game: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    _, took_part, projections = game
    exact = np.where(took_part, (2 * projections.astype(float) - 1) / (2 * NOISE**2), 0).sum(0)
    seen = evidence({"projections": projections, "participating": took_part})
    assert np.allclose(scored(ClientCanary(view="updates"), seen), exact)


def test_the_final_model_is_its_one_row_and_no_noise_is_no_trouble() -> None:
    row = np.array([[0.5, -1.0, 2.0]], np.float32)
    attack = ClientCanary(canaries=3, view="final-model", statistic="final")
    assert scored(attack, evidence({"projections": row}, 0.0, 3)).tolist() == [0.5, -1.0, 2.0]
    two = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], np.float32)
    values = scored(ClientCanary(canaries=3), evidence({"projections": two}, 0.0, 3))
    assert np.isfinite(values).all()
    assert values[1] < min(values[0], values[2])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"canaries": 0}, "at least 1"),
        ({"kind": "client-randon"}, "did you mean 'client-random'"),
        ({"view": "everything"}, "unknown view"),
        ({"statistic": "mean"}, "unknown statistic"),
        ({"statistic": "final"}, "reads the last model only"),
        ({"strength": 0.5}, "strength"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClientCanary(**wrong)


def test_a_transcript_of_other_canaries_is_refused() -> None:
    with pytest.raises(IncompatibleError, match=r"shape \(1, 2\), expected"):
        scored(ClientCanary(canaries=3), evidence({"projections": np.zeros((1, 2))}, 1.0, 3))
    with pytest.raises(IncompatibleError, match="shape None"):
        scored(ClientCanary(canaries=3), evidence({}, 1.0, 3))
