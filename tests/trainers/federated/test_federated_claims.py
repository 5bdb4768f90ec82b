from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from leakgauge.audit.accounting import dp_sgd_claim
from leakgauge.audit.bounds.gaussian import gaussian_epsilon
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Adjacency, Unit
from leakgauge.trainers.federated.claims import calibrated, view_claim
from leakgauge.trainers.federated.protection import VIEWS, AdaptiveClip, Protection, View

CENTRAL = Protection(1.0, central=1.5)
LOCAL = Protection(1.0, client=3.0)
SHARES = Protection(1.0, client=1.0, least_cohort=9, discrete=True)


def epsilon(protection: Protection, view: View, rate: float = 0.3, rounds: int = 6, delta: float = 1e-5) -> float:
    claim = view_claim(protection, view, sample_rate=rate, rounds=rounds, delta=delta)
    assert claim is not None
    return claim.epsilon


def test_who_is_protected_from_whom() -> None:
    protected = {
        name: [p.against(v) is not None for v in VIEWS]
        for name, p in {"central": CENTRAL, "local": LOCAL, "shares": SHARES}.items()
    }
    assert protected == {
        "central": [False, False, True, True],
        "local": [True, True, True, True],
        "shares": [True, True, True, True],
    }
    assert SHARES.against("updates").noise_multiplier == 1.0  # type: ignore[union-attr]
    assert SHARES.against("sum").noise_multiplier == 3.0  # type: ignore[union-attr]


def test_hidden_participation_is_the_subsampled_gaussian_of_clients() -> None:
    claim = view_claim(CENTRAL, "global-models", sample_rate=0.1, rounds=20, delta=1e-5)
    known = dp_sgd_claim(noise_multiplier=1.5, sample_rate=0.1, steps=20, delta=1e-5)
    assert claim is not None
    assert (claim.unit, claim.adjacency) == (Unit.CLIENT, Adjacency.ADD_REMOVE)
    assert claim.epsilon == known.epsilon
    assert claim.curve == known.curve


def test_known_participation_in_every_round_is_the_gaussian_mechanism() -> None:
    for view in VIEWS:
        assert math.isclose(epsilon(LOCAL, view, rate=1.0), gaussian_epsilon(math.sqrt(6) / 3, 1e-5), rel_tol=1e-6)


def test_known_participation_by_simulation_of_the_privacy_loss() -> None:
    rate, rounds, noise, delta = 0.3, 6, 1.0, 0.05
    protection = Protection(1.0, client=noise)
    spent = epsilon(protection, "updates", rate, rounds, delta)
    generator = Seeds(8).generator()
    times = generator.binomial(rounds, rate, 400_000)
    # The loss of k known releases is normal with mean k / (2 z^2) and variance k / z^2.
    loss = times / (2 * noise**2) + np.sqrt(times) / noise * generator.normal(size=len(times))
    measured = float(np.mean(np.maximum(0.0, 1 - np.exp(spent - loss))))
    # Standard error of the mean below 4e-4; five of them.
    assert abs(measured - delta) < 2e-3


def test_sampling_known_is_worse_than_hidden_and_the_claim_says_zero_out() -> None:
    hidden = epsilon(Protection(1.0, central=3.0), "global-models")
    assert epsilon(LOCAL, "global-models") > hidden
    claim = view_claim(LOCAL, "updates", sample_rate=0.3, rounds=6, delta=1e-5)
    assert claim is not None
    assert claim.adjacency is Adjacency.ZERO_OUT
    assert claim.epsilon_at(1e-6) > claim.epsilon


def test_discrete_shares_cost_a_little_more_than_continuous_noise() -> None:
    continuous = Protection(1.0, client=1.0, least_cohort=9)
    more, less = epsilon(SHARES, "sum"), epsilon(continuous, "sum")
    assert less < more < 1.3 * less
    coarse = Protection(1.0, client=1.0, least_cohort=9, discrete=True, bits=2)
    assert epsilon(coarse, "sum") > more


def test_laplace_with_the_whole_shift_in_one_coordinate_is_the_worst_case() -> None:
    from dp_accounting.pld import privacy_loss_distribution as pld

    def loss(shift: float, times: int) -> object:
        return pld.from_laplace_mechanism(4.0, sensitivity=shift, value_discretization_interval=1e-4).self_compose(
            times
        )

    whole, split = loss(1.0, 1), loss(0.25, 4)
    for e in (0.0, 0.1, 0.2):
        assert split.get_delta_for_epsilon(e) <= whole.get_delta_for_epsilon(e) + 1e-4  # type: ignore[attr-defined]
    # Pure DP: at most one epsilon of 1 / scale a round, whatever the sampling.
    laplace = Protection(1.0, law="laplace", central=4.0)
    assert 0 < epsilon(laplace, "global-models", rate=0.3, rounds=6) < 6 / 4
    assert epsilon(Protection(1.0, law="laplace", client=4.0), "updates", rate=1.0, rounds=6) <= 6 / 4 + 1e-3


def test_the_adaptive_clip_has_its_part_in_the_budget() -> None:
    adaptive = Protection(1.0, central=1.5, adaptive=AdaptiveClip(count_noise=2.0))
    assert epsilon(adaptive, "final-model") == epsilon(CENTRAL, "final-model")
    assert adaptive.update_noise > 1.5


@pytest.mark.parametrize("placement", ["client", "central"])
def test_calibration_reaches_its_epsilon_and_no_less(placement: str) -> None:
    public = {"sample_rate": 0.3, "rounds": 6, "delta": 1e-5}

    def protect(z: float) -> Protection:
        return Protection(1.0, law="gaussian" if placement == "client" else "laplace", **{placement: z})  # type: ignore[arg-type]

    noise = calibrated(protect, "final-model", 2.0, **public)
    assert epsilon(protect(noise), "final-model") <= 2.0
    assert epsilon(protect(noise * 0.999), "final-model") > 2.0 - 0.01


def test_more_clients_of_smaller_shares_protect_the_sum_as_much() -> None:
    larger = SHARES.for_cohorts(20.0)
    assert larger.least_cohort == 180
    assert math.isclose(larger.against("sum").noise_multiplier, 3.0)  # type: ignore[union-attr]
    assert CENTRAL.for_cohorts(20.0) == CENTRAL


def test_zcdp_conversion_is_an_upper_bound_of_the_gaussian() -> None:
    one = Protection(1.0, client=2.0, discrete=True)
    assert epsilon(one, "updates", rate=1.0, rounds=1) >= gaussian_epsilon(0.5, 1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clip": 0.0}, "clip must be"),
        ({"clip": 1.0, "law": "uniform"}, "mechanism must be"),
        ({"clip": 1.0, "least_cohort": 0}, "least_cohort"),
        ({"clip": 1.0, "discrete": True, "law": "laplace"}, "discrete Gaussian"),
        ({"clip": 1.0, "client": 1.0, "adaptive": AdaptiveClip()}, "adaptive clipping"),
    ],
)
def test_protections_that_cannot_be_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Protection(**wrong)  # type: ignore[arg-type]


def test_binomial_mixture_matches_exact_enumeration() -> None:
    rate, rounds, noise, delta = 0.5, 3, 2.0, 1e-3
    spent = epsilon(Protection(1.0, client=noise), "sum", rate, rounds, delta)

    def profile(times: int) -> float:
        mu = math.sqrt(times) / noise
        return float(stats.norm.cdf(mu / 2 - spent / mu) - math.exp(spent) * stats.norm.cdf(-mu / 2 - spent / mu))

    mean = sum(math.comb(3, k) / 8 * profile(k) for k in (1, 2, 3))
    assert math.isclose(mean, delta, rel_tol=1e-5)
