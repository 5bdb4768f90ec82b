"""The ceiling on reconstruction: closed forms, reference values, and simulations with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from leakgauge.audit.bounds.gaussian import gaussian_epsilon
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.reconstruction import gaussian_success_bound, orthogonal_success, success_bound, tangent_delta
from leakgauge.audit.types import Claim, CurvePoint, Mechanism

# Reference table of the project's notes (federated_inversion_supermask.md, section 4).
TABLE = {
    0.25: (0.599, 0.151, 0.0003),
    0.5: (0.692, 0.217, 0.0008),
    1: (0.841, 0.389, 0.0039),
    2: (0.977, 0.764, 0.048),
    4: (1.0, 0.997, 0.632),
}


@pytest.mark.parametrize("mu", TABLE)
def test_the_gaussian_bound_has_the_reference_values(mu):
    for prior, expected in zip((1 / 2, 1 / 10, 1 / 8000), TABLE[mu], strict=True):
        assert gaussian_success_bound(prior, mu) == pytest.approx(expected, abs=6e-4 if expected > 1e-3 else 5e-5)


def gaussian_claim(mu: float, deltas=(1e-5,)) -> Claim:
    points = tuple(CurvePoint(d, gaussian_epsilon(mu, d)) for d in sorted(deltas))
    return Claim(points[0].epsilon, points[0].delta, curve=points)


@pytest.mark.parametrize("mu", [0.25, 1.0, 2.0])
@pytest.mark.parametrize("prior", [0.5, 0.1, 0.01])
def test_the_tangent_point_of_the_curve_gives_the_same_bound_as_the_curve(mu, prior):
    delta = tangent_delta(prior, mu)
    touched = success_bound(prior, gaussian_claim(mu, (delta,)))
    if prior < ndtr(-mu / 2):
        assert touched == pytest.approx(gaussian_success_bound(prior, mu), abs=1e-6)
    assert touched >= gaussian_success_bound(prior, mu) - 1e-9
    # Every other point of the curve allows at least as much.
    for other in (delta / 10, delta + (1 - delta) / 2) if prior < ndtr(-mu / 2) else ():
        assert success_bound(prior, gaussian_claim(mu, (other,))) >= touched - 1e-9


def test_a_bound_from_points_is_the_least_of_them_and_a_gaussian_claim_uses_its_curve():
    claim = Claim(1.0, 0.0, curve=(CurvePoint(0.0, 1.0), CurvePoint(0.1, 0.2)))
    assert success_bound(0.1, claim) == pytest.approx(np.exp(0.2) * 0.1 + 0.1)
    gaussian = Claim(9.0, 1e-5, mechanism=Mechanism("gaussian", (("noise_multiplier", 2.0),)))
    assert success_bound(0.1, gaussian) == pytest.approx(gaussian_success_bound(0.1, 0.5))
    assert success_bound(0.5, Claim(50.0, 0.0)) == pytest.approx(1.0)
    # The other branch of the trade-off function: failing is as protected as succeeding.
    assert success_bound(0.9, Claim(1.0, 0.0)) == pytest.approx(1 - 0.1 / np.e)


def test_the_integral_for_orthogonal_candidates_agrees_with_simulation():
    # 40000 trials: standard error at most .0025; 4 of them fail once in 16000 runs, for a fixed seed never again.
    generator = np.random.default_rng(3)
    for candidates, mu in ((2, 0.5), (10, 1.0), (100, 2.0)):
        noise = generator.standard_normal((40_000, candidates))
        noise[:, 0] += mu
        measured = float((noise.argmax(axis=1) == 0).mean())
        assert orthogonal_success(candidates, mu) == pytest.approx(measured, abs=0.01)
    # Two orthogonal signals of norm mu lie sqrt(2) mu apart: Phi(mu / sqrt 2).
    assert orthogonal_success(2, 1.0) == pytest.approx(0.76025, abs=1e-5)


def test_no_attacker_of_a_small_world_beats_the_bound():
    # Exact: one of k secrets through a discrete mechanism; the best attacker is the maximum a posteriori rule.
    generator = np.random.default_rng(0)
    for _ in range(50):
        base = generator.dirichlet(np.ones(6))
        secrets = [generator.dirichlet(np.ones(6)) for _ in range(5)]
        epsilon = max(float(np.max(np.log(s / base))) for s in secrets)
        best = float(np.max(np.stack(secrets), axis=0).sum()) / 5
        assert best <= success_bound(1 / 5, Claim(epsilon, 0.0)) + 1e-12


def test_priors_outside_the_open_interval_are_refused():
    for prior in (0.0, 1.0, -0.2):
        with pytest.raises(ConfigError, match="strictly between"):
            gaussian_success_bound(prior, 1.0)
    with pytest.raises(ConfigError, match="at least 2"):
        orthogonal_success(1, 1.0)
