from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leakgauge.audit.canaries import CanaryHost, CanarySet
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Adjacency, Rows, Unit
from leakgauge.trainers.federated.canaries import directions
from leakgauge.trainers.federated.trainer import DpFederated, Federated

SMALL: dict[str, Any] = {"hidden": (16,), "clients": 8, "cohort": 4, "rounds": 6, "batch_size": 8}
COUNT = 60


def canary_set(view: str, kind: str = "client-orthogonal", seed: int = 0, **parameters: float) -> CanarySet:
    inside = Seeds(seed).generator().random(COUNT) < 0.5
    return CanarySet(kind, inside, Unit.CLIENT, view, parameters)


def witness(trainer: Any, data: Rows, canaries: CanarySet) -> Any:
    inside = np.arange(len(data)) % 4 != 0
    return trainer.fit_with_canaries(data, inside, canaries, seeds=Seeds(5), device="cpu")


def test_both_trainers_host_and_claims_ignore_the_coins(blobs: Rows) -> None:
    plain, private = Federated(**SMALL), DpFederated(**SMALL, noise_multiplier=1.0)
    assert isinstance(plain, CanaryHost)
    assert isinstance(private, CanaryHost)
    assert plain.planned_canary_claim(0, canary_set("sum")) is None
    assert private.planned_canary_claim(0, canary_set("sum")) is None
    one, other = (private.planned_canary_claim(0, canary_set("global-models", seed=s)) for s in (0, 1))
    assert one == other
    assert one is not None
    assert witness(private, blobs, canary_set("global-models")).claim == one


def test_without_noise_projections_are_who_took_part(blobs: Rows) -> None:
    """An inserted canary that takes part adds 1; updates of the eight real clients are small beside it."""
    canaries = canary_set("sum", strength=1000.0)
    seen = witness(Federated(**SMALL, weighting="uniform", learning_rate=0.01), blobs, canaries).transcript
    expected = 1000 * (seen["participating"] & canaries.inside)
    assert np.abs(seen["projections"] - expected).max() < 5
    assert 0.35 < seen["participating"].mean() < 0.65


@pytest.mark.parametrize("noise", ["central", "distributed", "local"])
def test_clipped_canaries_add_one_in_the_middle_of_noise(blobs: Rows, noise: str) -> None:
    view = "global-models" if noise == "central" else "sum"
    trainer = DpFederated(
        **{**SMALL, "rounds": 40, "cohort": 8}, noise=noise, noise_multiplier=0.3, view=view, least_cohort=2
    )  # type: ignore[arg-type]
    canaries = canary_set(view)
    witnessed = witness(trainer, blobs, canaries)
    values = witnessed.transcript["projections"][:, canaries.inside]
    # 40 rounds of some 30 canaries; noise of 0.3 (client noise of 68 clients: 2.5), interference of eight clients 0.05.
    assert abs(values.mean() - 1) < (0.1 if noise == "central" else 0.4)
    assert abs(witnessed.transcript["projections"][:, ~canaries.inside].mean()) < (0.1 if noise == "central" else 0.4)


def test_coins_move_nobody_else(blobs: Rows) -> None:
    trainer = DpFederated(**SMALL, noise="local", noise_multiplier=1.0, view="updates")
    one, other = canary_set("updates", seed=1), canary_set("updates", seed=2)
    seen = [witness(trainer, blobs, c).transcript for c in (one, other)]
    assert np.array_equal(seen[0]["participating"], seen[1]["participating"])
    # Zero-out: a canary that is out sends noise alone, and the same noise.
    gap = seen[0]["projections"] - seen[1]["projections"]
    expected = seen[0]["participating"] * (one.inside.astype(float) - other.inside)
    assert np.allclose(gap, expected, atol=1e-5)
    assert not seen[0]["projections"][~seen[0]["participating"]].any()


def test_client_noise_is_a_zero_out_game_and_central_noise_an_add_remove_one(blobs: Rows) -> None:
    central = witness(DpFederated(**SMALL, noise_multiplier=1.0), blobs, canary_set("final-model"))
    local = witness(DpFederated(**SMALL, noise="local", noise_multiplier=1.0), blobs, canary_set("final-model"))
    assert central.claim.adjacency is Adjacency.ADD_REMOVE
    assert local.claim.adjacency is Adjacency.ZERO_OUT
    assert central.transcript["projections"].shape == (1, COUNT)
    assert set(central.transcript) == {"projections"}


def test_servers_know_who_takes_part_and_clients_do_not(blobs: Rows) -> None:
    shown = {
        view: set(witness(Federated(**SMALL), blobs, canary_set(view)).transcript)
        for view in ("updates", "sum", "global-models")
    }
    assert shown == {
        "updates": {"projections", "participating"},
        "sum": {"projections", "participating"},
        "global-models": {"projections"},
    }


def test_noise_of_the_canary_run_is_what_is_claimed_against_the_observer(blobs: Rows) -> None:
    shares = DpFederated(**SMALL, noise="distributed", noise_multiplier=3.0, least_cohort=4, view="sum")
    assert witness(shares, blobs, canary_set("sum")).public["noise_multiplier"] == pytest.approx(3.0)
    assert witness(shares, blobs, canary_set("updates")).public["noise_multiplier"] == pytest.approx(1.5)


def test_an_adaptive_clip_survives_canaries(blobs: Rows) -> None:
    trainer = DpFederated(**{**SMALL, "rounds": 60}, noise_multiplier=1.0, adaptive_clip=True, count_noise=5.0)
    seen = witness(trainer, blobs, canary_set("global-models"))
    assert 0.05 < seen.metrics["final_clip"] < 20
    assert np.isfinite(seen.transcript["projections"]).all()


@pytest.mark.parametrize("law", ["gaussian", "laplace"])
@pytest.mark.parametrize("kind", ["client-random", "client-orthogonal", "client-crafted"])
def test_directions_are_unit_and_as_orthogonal_as_promised(law: str, kind: str) -> None:
    natural = Seeds(3).generator().normal(size=(10, 120)) @ np.diag(np.geomspace(1, 1e-3, 120))
    drawn = directions(canary_set("sum", kind), 120, law=law, natural=lambda: natural, seeds=Seeds(1))
    assert np.allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-5)
    overlap = np.abs(drawn @ drawn.T - np.eye(COUNT)).max()
    assert (overlap < 1e-5) == (kind != "client-random")
    if kind == "client-crafted" and law == "gaussian":
        assert np.abs(drawn @ natural.T).max() < 1e-5
    if kind != "client-random" and law == "laplace":
        assert (np.count_nonzero(drawn, axis=1) == 1).all()


def test_what_cannot_be_hosted_is_refused(blobs: Rows) -> None:
    trainer = Federated(**SMALL)
    with pytest.raises(ConfigError, match="host canaries"):
        witness(trainer, blobs, canary_set("sum", "dirac"))
    with pytest.raises(ConfigError, match="unknown setting 'strenght'; did you mean 'strength'"):
        witness(trainer, blobs, canary_set("sum", strenght=2.0))
    with pytest.raises(ConfigError, match="at least 1"):
        witness(trainer, blobs, canary_set("sum", strength=0.5))
    with pytest.raises(ConfigError, match="unknown view"):
        witness(trainer, blobs, canary_set("sums"))
