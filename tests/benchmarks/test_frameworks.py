from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Verdict
from leakgauge.benchmarks.frameworks.examine import examine_subject, probe_flower_clips, probe_subject
from leakgauge.benchmarks.frameworks.subjects import own_subjects

if importlib.util.find_spec("flwr") is None:
    pytest.skip("flwr is not installed: pip install 'leakgauge[flower]'", allow_module_level=True)

from leakgauge.benchmarks.frameworks.flower import flower_aggregate, integer_buffer_after
from leakgauge.benchmarks.frameworks.report import markdown
from leakgauge.benchmarks.frameworks.reproductions import REPRODUCTIONS
from leakgauge.benchmarks.frameworks.subjects import flower_claim, flower_subjects
from leakgauge.benchmarks.frameworks.suite import Results
from leakgauge.trainers.flower import require_flower


@pytest.fixture(autouse=True, scope="module")
def quiet():
    require_flower()


def flower(name, scene):
    (found,) = [s for s in flower_subjects() if s.name == name and s.scenes == (scene,)]
    return found


def test_a_heavy_client_lowers_flowers_noise_to_a_ninth():
    outcome = examine_subject(flower("server-side fixed clipping", "heavy"), seeds=Seeds(1), runs=150)
    (audit,) = outcome.audits
    # 1000 of 1090 examples move the mean by 0.917, the noise is 0.1: 0.109. 20 % is five standard errors.
    assert audit.noise.value == pytest.approx(0.109, rel=0.2)
    assert audit.noise.high < 0.2
    assert audit.verdict is Verdict.VIOLATED
    assert outcome.as_expected


def test_equal_clients_are_the_control():
    (audit,) = examine_subject(flower("server-side fixed clipping", "equal"), seeds=Seeds(2), runs=100).audits
    assert audit.noise.low <= 1.0 <= audit.noise.high
    assert audit.verdict is not Verdict.VIOLATED


def test_local_dp_beyond_its_formula_and_within():
    # Exact epsilon of the noise that the mod adds at 20 is 25.4; 2400 runs certify above 20.
    outcome = examine_subject(flower("LocalDpMod, epsilon 20", "alone"), seeds=Seeds(3), runs=2400)
    assert outcome.as_expected
    assert examine_subject(flower("LocalDpMod, epsilon 1", "alone"), seeds=Seeds(4), runs=200).as_expected


@pytest.mark.parametrize(("position", "scenes"), [(0, ("equal", "heavy", "huge", "loud", "opposed")), (1, ("heavy",))])
def test_right_aggregations_are_not_flagged(position, scenes):
    outcome = examine_subject(replace(own_subjects()[position], scenes=scenes), seeds=Seeds(5).at(position))
    assert outcome.as_expected
    assert {a.verdict for a in outcome.audits} == {Verdict.CONSISTENT}


def test_probes_of_flower():
    subject = flower("server-side fixed clipping", "heavy")
    seen = {r.rule: r for r in probe_subject(subject, seeds=Seeds(6))}
    assert seen["aggregate.zero-update"].passed is False
    assert "ZeroDivisionError" in seen["aggregate.zero-update"].detail
    assert seen["aggregate.non-finite"].passed is False
    assert seen["aggregate.noise-source"].passed is False
    assert seen["aggregate.huge-update"].passed is True
    for result in probe_flower_clips(seeds=Seeds(7)).values():
        assert result.passed is False
        # The series of the reference note: 0.1 to 0.0368 in ten rounds.
        assert result.measured == pytest.approx(0.1 * np.exp(-1), rel=1e-6)


def test_an_integer_counter_comes_back_noisy():
    from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping

    counter = integer_buffer_after(lambda s: DifferentialPrivacyServerSideFixedClipping(s, 1.0, 100.0, 10))
    assert isinstance(counter, np.ndarray)
    assert float(counter) != int(counter)


def test_flowers_accountant_and_the_exact_figure():
    from leakgauge.audit.bounds.gaussian import gaussian_epsilon

    assert flower_claim(1.0).epsilon == pytest.approx(4.7285, abs=1e-4)
    assert gaussian_epsilon(1.0, 1e-5) == pytest.approx(4.3772, abs=1e-4)


@pytest.mark.parametrize("reproduction", REPRODUCTIONS, ids=lambda r: r.title)
def test_each_reproduction_shows_what_it_says(reproduction):
    with Seeds(8).at(reproduction.title).numpy_scope():
        exec(compile(reproduction.code, "reproduction", "exec"), {})


def test_the_page_names_what_was_not_tested():
    outcome = examine_subject(flower("LocalDpMod, epsilon 1", "alone"), seeds=Seeds(9), runs=60)
    probes = {"flwr: x": tuple(probe_subject(flower("server-side fixed clipping", "equal"), seeds=Seeds(10)))}
    page = markdown(Results((outcome,), probes, {"pfl": "not installed"}))
    assert "pfl: not installed" in page
    assert "## Reproductions" in page
    assert "**no**" in page


def test_plain_fedavg_moves_by_the_weighted_mean():
    aggregate = flower_aggregate(lambda s: s)
    out = aggregate([np.array([1.0, 0.0]), np.array([0.0, 2.0])], [10.0, 30.0])
    assert np.allclose(out, [0.25, 1.5], atol=1e-6)
