from __future__ import annotations

import numpy as np
import pytest

from leakgauge.audit.aggregation import (
    ClaimedRound,
    examine_aggregation,
    examine_scene,
    judge_scores,
    lone_scene,
    standard_scenes,
)
from leakgauge.audit.bounds.gaussian import gaussian_epsilon
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Adjacency, Claim, Mechanism, Unit, Verdict

CLIENTS, DIMENSION = 10, 5


class Server:
    """A mean with every part that can be wrong as a switch."""

    def __init__(self, seed, *, noise=1.0, weighted=False, realised=False, clips=True, silent_layer=None):
        self.generator = Seeds(seed).generator()
        self.noise, self.weighted, self.realised, self.clips = noise, weighted, realised, clips
        self.silent_layer = silent_layer

    def __call__(self, updates, weights):
        values = np.array(updates)
        if self.clips:
            values /= np.maximum(1.0, np.linalg.norm(values, axis=1))[:, None]
        share = np.array(weights) / np.sum(weights) if self.weighted else np.full(len(values), 1 / CLIENTS)
        if self.realised and not self.weighted:
            share = np.full(len(values), 1 / len(values))
        noise = self.noise / CLIENTS * self.generator.standard_normal(values.shape[1])
        if self.silent_layer is not None:
            noise[self.silent_layer] = 0.0
        return share @ values + noise


def claimed(noise=1.0, adjacency=Adjacency.ADD_REMOVE):
    mechanism = Mechanism("gaussian", (("noise_multiplier", noise),))
    return ClaimedRound(1.0, noise, Claim(gaussian_epsilon(1 / noise, 1e-5), 1e-5, Unit.CLIENT, adjacency, mechanism))


def verdicts(server, how=None, runs=1200, **options):
    audits = examine_aggregation(
        server, how or claimed(), clients=CLIENTS, dimension=DIMENSION, runs=runs, seeds=Seeds(5), **options
    )
    return {a.scene: a for a in audits}


def test_a_right_server_is_consistent_in_every_scene():
    # Two bounds at 0.999 in five scenes: false alarm with probability below 5e-3; the seed is fixed.
    seen = verdicts(Server(1, noise=2.0), claimed(2.0), unprotected=Server(2, noise=0.0))
    assert {a.verdict for a in seen.values()} == {Verdict.CONSISTENT}
    for audit in seen.values():
        # The measured multiplier is the claimed one: 4 standard errors of a shift of half a deviation.
        assert audit.noise.value == pytest.approx(2.0, rel=0.4)


def test_without_a_twin_nothing_is_called_consistent():
    assert verdicts(Server(1, noise=2.0), claimed(2.0), names=["equal"])["equal"].verdict is Verdict.UNDERPOWERED


def test_weighting_by_examples_is_caught_and_measured():
    seen = verdicts(Server(3, weighted=True), runs=2400, names=["equal", "heavy"])
    assert seen["heavy"].verdict is Verdict.VIOLATED
    assert seen["heavy"].judgement.refutes == "guarantee"
    # One of 1090 examples moves the mean by 1000/1090, the noise is 0.1.
    assert seen["heavy"].noise.low <= 0.1 * 1090 / 1000 <= seen["heavy"].noise.high
    assert seen["equal"].verdict is not Verdict.VIOLATED


def test_a_divisor_of_those_present_is_caught_by_opposing_clients():
    seen = verdicts(Server(4, realised=True), runs=2000, names=["equal", "opposed"])
    assert seen["opposed"].verdict is Verdict.VIOLATED
    assert seen["opposed"].noise.low <= 0.5 <= seen["opposed"].noise.high
    assert seen["equal"].verdict is not Verdict.VIOLATED


def test_a_missing_clip_is_caught():
    assert verdicts(Server(5, clips=False), names=["huge"])["huge"].verdict is Verdict.VIOLATED


def test_a_layer_without_noise_is_found():
    seen = verdicts(Server(6, silent_layer=3), names=["equal"])
    assert seen["equal"].verdict is Verdict.VIOLATED
    assert seen["equal"].noise.value == 0.0


def test_replacement_doubles_the_shift():
    seen = verdicts(Server(7), claimed(1.0, Adjacency.REPLACE_ONE), names=["equal"], runs=2000)
    assert seen["equal"].verdict is Verdict.VIOLATED
    assert seen["equal"].noise.low <= 0.5 <= seen["equal"].noise.high


def test_a_single_noisy_message_is_judged_by_replacement():
    def local(updates, weights, *, generator=Seeds(8).generator()):  # noqa: B008
        return np.clip(updates[0], -1, 1) + 0.2 * generator.standard_normal(DIMENSION)

    audit = examine_scene(
        local,
        lone_scene(clip=1.0, dimension=DIMENSION),
        claimed(1.0, Adjacency.REPLACE_ONE),
        runs=1200,
        seeds=Seeds(9),
    )
    assert audit.verdict is Verdict.VIOLATED
    assert audit.noise.low <= 0.1 <= audit.noise.high


def test_an_exception_and_nan_are_errors_not_passes():
    def raising(updates, weights):
        raise ZeroDivisionError("float division by zero")

    def broken(updates, weights):
        return np.full(DIMENSION, np.nan)

    seen = verdicts(raising, names=["equal"])["equal"]
    assert seen.verdict is Verdict.ERROR
    assert "ZeroDivisionError" in seen.error
    assert verdicts(broken, names=["equal"])["equal"].verdict is Verdict.ERROR
    assert seen.to_json()["effective_noise_multiplier"] is None


def test_the_scenes_differ_by_one_client():
    for adjacency in Adjacency:
        for scene in standard_scenes(clip=1.0, clients=6, dimension=4, adjacency=adjacency):
            shared = len(scene.within.updates) - 1
            assert np.array_equal(scene.within.updates[:shared], scene.without.updates[:shared])
            assert len(scene.without.updates) == shared + (adjacency is not Adjacency.ADD_REMOVE)


def test_false_alarms_of_the_judge_stay_below_one_in_a_thousand():
    # Exactly the claimed Gaussian shift, 120 audits: more than 2 alarms has probability below 3e-4 at rate 1e-3.
    generator, how, alarms = Seeds(10).generator(), claimed(), 0
    for i in range(120):
        audit = judge_scores(
            generator.normal(1, 1, 200),
            generator.normal(0, 1, 200),
            how,
            name="x",
            adjacency=Adjacency.ADD_REMOVE,
            seeds=Seeds(11).at(i),
        )
        alarms += audit.verdict is Verdict.VIOLATED
    assert alarms <= 2


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="runs"):
        verdicts(Server(1), runs=39)
    with pytest.raises(ConfigError, match="unknown"):
        verdicts(Server(1), names=["nonsense"])
    with pytest.raises(ConfigError, match="clip"):
        ClaimedRound(0.0, 1.0, claimed().claim)
    with pytest.raises(IncompatibleError, match="record"):
        ClaimedRound(1.0, 1.0, Claim(1.0, 1e-5))
    with pytest.raises(ConfigError, match="clients >= 3"):
        standard_scenes(clip=1.0, clients=2, dimension=4)
