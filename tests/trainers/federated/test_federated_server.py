from __future__ import annotations

import math

import numpy as np
import pytest

from leakgauge.audit.errors import ConfigError
from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.federated.cohort import draw_cohort, draw_survivors
from leakgauge.trainers.federated.protection import AdaptiveClip, Protection
from leakgauge.trainers.federated.sending import RoundSum
from leakgauge.trainers.federated.server import Aggregation, ServerState, aggregate, clip_updates, server_step


@pytest.mark.parametrize(("law", "order"), [("gaussian", 2), ("laplace", 1)])
def test_clipping_is_that_of_each_vector_alone(law: str, order: int) -> None:
    deltas = Seeds(1).generator().normal(size=(20, 7)) * np.geomspace(1e-3, 1e3, 20)[:, None]
    clipped = clip_updates(deltas, 1.5, law=law)  # type: ignore[arg-type]
    for before, after, within in zip(deltas, clipped.updates, clipped.within, strict=True):
        length = float(np.linalg.norm(before, ord=order))
        assert np.allclose(after, before * min(1.0, 1.5 / length))
        assert within == (length <= 1.5)


def test_a_zero_update_stays_zero_and_no_number_becomes_zero() -> None:
    deltas = np.array([[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0], [3.0, 4.0]])
    clipped = clip_updates(deltas, 1.0)
    assert np.allclose(clipped.updates, [[0, 0], [0, 0], [0, 0], [0.6, 0.8]])
    assert clipped.rejected.tolist() == [False, True, True, False]


def test_the_divisor_is_public_and_the_noise_is_on_the_sum() -> None:
    how = Aggregation(expected_cohort=10.0, clip=2.0, noise_multiplier=1.5)
    total = np.full(40_000, 3.0)
    released = aggregate(total, how, seeds=Seeds(2))
    # Mean 0.3 and standard deviation 1.5 * 2 / 10; both checks fail for a right server with probability below 1e-5.
    assert abs(released.mean() - 0.3) < 4.5 * 0.3 / 200
    assert abs(released.std() / 0.3 - 1) < 4.5 / math.sqrt(80_000)
    assert np.array_equal(released, aggregate(total, how, seeds=Seeds(2)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"expected_cohort": 0},
        {"expected_cohort": 1, "clip": 0},
        {"expected_cohort": 1, "clip": 1, "noise_multiplier": -1},
        {"expected_cohort": 1, "noise_multiplier": 1},
    ],
)
def test_wrong_aggregations_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Aggregation(**wrong)  # type: ignore[arg-type]


def test_server_momentum_is_that_of_a_naive_loop() -> None:
    means = Seeds(3).generator().normal(size=(5, 4))
    state, weights, moving = ServerState.start(np.ones(4)), np.ones(4), np.zeros(4)
    for mean in means:
        state = server_step(state, mean, learning_rate=0.5, momentum=0.9)
        moving = 0.9 * moving + mean
        weights = weights + 0.5 * moving
    assert np.allclose(state.weights, weights)


def test_an_adaptive_clip_moves_towards_the_quantile() -> None:
    adaptive = AdaptiveClip(quantile=0.5, learning_rate=0.2, count_noise=0.0)
    norms, clip = np.full(100, 10.0), 0.1
    for _ in range(60):
        centred = float(np.sum((norms <= clip) - 0.5))
        clip = adaptive.next_clip(clip, centred, 100)
    # Flower 1.41.0 goes the other way, for ever.
    assert 8 < clip < 12
    assert adaptive.next_clip(1.0, 50.0, 100) < 1 < adaptive.next_clip(1.0, -50.0, 100)


def test_both_releases_of_an_adaptive_round_cost_what_one_does() -> None:
    adaptive = AdaptiveClip(count_noise=2.0)
    left = adaptive.update_noise(1.0)
    assert math.isclose(left**-2 + (2 * 2.0) ** -2, 1.0)
    with pytest.raises(ConfigError, match="leaves nothing for the updates"):
        AdaptiveClip(count_noise=0.4).update_noise(1.0)


def test_cohorts_are_poisson_and_failures_do_not_change_who_is_asked() -> None:
    names = [f"client-{i}" for i in range(2000)]
    asked = [draw_cohort(names, 0.3, seeds=Seeds(4), round_number=t) for t in range(20)]
    # 40,000 coins of 0.3: standard deviation 0.0023, five of them.
    assert abs(np.mean(asked) - 0.3) < 0.0115
    assert len({a.sum() for a in asked}) > 5
    alive = draw_survivors(asked[0], 0.25, seeds=Seeds(4), round_number=0)
    assert not (alive & ~asked[0]).any()
    assert abs(alive.sum() / asked[0].sum() - 0.75) < 0.09
    assert draw_survivors(asked[0], 0.0, seeds=Seeds(4), round_number=0) is asked[0]


def test_noise_shares_add_up_on_the_grid_and_a_bad_client_is_named() -> None:
    protection = Protection(clip=1.0, client=0.5, discrete=True, least_cohort=4)
    summing = RoundSum(0, 3000, protection, 1.0, Seeds(5), answered=4)
    deltas = np.zeros((4, 3000))
    deltas[1, 0] = np.nan
    with pytest.warns(UserWarning, match="'b' first, sent an update with NaN"):
        sent = summing.add(["a", "b", "c", "d"], deltas)
    assert summing.rejected == 1
    total = summing.total(())
    assert np.allclose(total, sent.sum(0))
    # Four shares of 0.5 are one noise of 1; 3000 values, 4.5 standard deviations of the sample's.
    assert abs(total.std() - 1) < 4.5 / math.sqrt(6000)
    assert np.allclose(total * (2**15 - 1), np.rint(total * (2**15 - 1)))
