from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from leakgauge.attacks.canary.gradient_audit import GradientCanaryAudit
from leakgauge.audit.canaries import CanaryEvidence, CanaryHost
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.metrics import auc
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access, BoolArray, Rows, Unit
from leakgauge.trainers.supermask.private import DpSupermask
from leakgauge.trainers.supermask.trainer import Supermask

PRIVATE = DpSupermask(
    hidden=(8,), rule="sign", optimizer="sgd", learning_rate=0.5, batch_size=24, nominal_rows=120, epochs=12,
    noise_multiplier=2.0, max_grad_norm=0.7,
)  # fmt: skip
EVERY = np.ones(120, np.bool_)


def projections(trainer: Any, data: Rows, inside: BoolArray, attack: GradientCanaryAudit) -> Any:
    return trainer.fit_with_canaries(data, EVERY, attack.canary_set(inside), seeds=Seeds(5), device="cpu")


@pytest.mark.parametrize("rule", ["sign", "bernoulli"])
def test_a_canary_adds_exactly_one_clip_where_it_is_sampled(blobs: Rows, rule: Any) -> None:
    """Same streams with all canaries in and with none: noise and real rows cancel, whatever training did."""
    attack = GradientCanaryAudit(canaries=50, strength=10.0)
    trainer = replace(PRIVATE, rule=rule)
    within, without = (
        projections(trainer, blobs, np.full(50, coin), attack).transcript["projections"] for coin in (True, False)
    )
    assert within.shape == (60, 50)
    added = within - without
    assert np.allclose(added, np.round(added), atol=1e-5)
    assert set(np.round(added).astype(int).ravel().tolist()) == {0, 1}
    # 3000 coins of 0.2: four standard errors are 0.03; fixed seeds.
    assert abs(added.mean() - 0.2) < 0.03
    assert abs(without.std() - 2.0) < 0.11


def test_the_twin_shows_canaries_at_full_strength(blobs: Rows) -> None:
    attack = GradientCanaryAudit(canaries=50, strength=10.0)
    inside = np.arange(50) < 25
    seen = projections(PRIVATE.unprotected(), blobs, inside, attack)
    assert seen.claim is None
    assert seen.public["noise_multiplier"] == 0
    found = seen.transcript["projections"]
    assert set(np.unique(found[:, inside])) == {0.0, 10.0}
    assert not found[:, ~inside].any()


def test_random_directions_share_their_coordinates(blobs: Rows) -> None:
    attack = GradientCanaryAudit(canaries=40, kind="random", dimension=2000)
    trainer = replace(PRIVATE, noise_multiplier=0.05)
    inside = np.arange(40) < 20
    found = projections(trainer, blobs, inside, attack).transcript["projections"]
    # Directions in 2000 coordinates are nearly orthogonal: one clip each, and interference of a few hundredths.
    assert found[:, inside].mean() == pytest.approx(0.2, abs=0.05)
    assert abs(found[:, ~inside].mean()) < 0.03


def test_the_claim_is_the_trainer_s_own_and_the_attack_reads_the_coins(blobs: Rows) -> None:
    trainer, attack = replace(PRIVATE, noise_multiplier=0.5), GradientCanaryAudit(canaries=400)
    inside = Seeds(2).generator().random(400) < 0.5
    seen = projections(trainer, blobs, inside, attack)
    planned = trainer.planned_canary_claim(120, attack.canary_set(inside))
    assert seen.claim is not None
    assert seen.claim.epsilon == planned.epsilon == trainer.planned_claim(120).epsilon
    assert seen.public == {"sample_rate": 0.2, "steps": 60.0, "noise_multiplier": 0.5}
    ids = attack.canary_set(inside).ids
    evidence = CanaryEvidence(ids, seen.transcript, seen.public, Access.TRANSCRIPT, Unit.RECORD)
    scores = attack.score_canaries(evidence, seeds=Seeds(1))
    # About mu = 0.2 sqrt(60) / 0.5 = 3.1 apart: an AUC of 0.98.
    assert auc(scores.values, inside) > 0.95


def test_hosts_are_said_and_other_canaries_refused(blobs: Rows) -> None:
    assert isinstance(PRIVATE, CanaryHost)
    assert PRIVATE.hosts() == PRIVATE.unprotected().hosts() == ("gradient-dirac", "gradient-random")
    assert Supermask(hidden=(8,)).hosts() == ()
    wrong = replace(GradientCanaryAudit(canaries=20).canary_set(np.ones(20, np.bool_)), kind="client-random")
    with pytest.raises(ConfigError, match="client-random"):
        PRIVATE.planned_canary_claim(120, wrong)
