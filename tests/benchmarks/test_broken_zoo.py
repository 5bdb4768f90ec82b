"""The zoo of broken trainers: some entries of each kind by default, all of them and the correct ones as `slow`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from leakgauge.audit.checks import STATIC_RULES, Divisor, Sampler, failures
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Adjacency
from leakgauge.benchmarks.broken import suite
from leakgauge.benchmarks.broken.agreement import shuffled
from leakgauge.benchmarks.broken.catalogue import CORRECT, THOUSAND, ZOO
from leakgauge.benchmarks.broken.measure import Outcome, alarm_all, examine, examine_all
from leakgauge.benchmarks.broken.opacus_patches import stop_on_holdout, stop_on_public
from leakgauge.benchmarks.broken.opacus_record import record_of, sampling_streams
from leakgauge.benchmarks.broken.opacus_subject import CanaryGame
from leakgauge.benchmarks.broken.opacus_trainer import SMALL, OpacusTrainer, Scale
from leakgauge.benchmarks.broken.optimizers import NoNoise
from leakgauge.benchmarks.broken.ranks import Ranks
from leakgauge.benchmarks.broken.release import ReleaseSubject, half_precision_noise
from leakgauge.benchmarks.broken.report import Results, markdown

ENTRIES = {entry.name: entry for entry in ZOO}
PROBES = {
    "probe.sensitivity",
    "probe.non-finite",
    "probe.empty-batch",
    "probe.noise-scale",
    "probe.noise-fresh",
    "probe.noise-shared",
    "probe.noise-law",
}
FAST_STATIC = ["clt-accountant", "steps-forgotten", "bare-accumulation", "batch-norm", "weighted-sampler"]
FAST_DYNAMIC = ["half-precision-noise", "private-divisor", "shared-masks"]

pytestmark = pytest.mark.filterwarnings("ignore")


def silent(_: str) -> None:
    pass


def test_the_zoo_is_large_enough_and_every_entry_says_what_must_catch_it() -> None:
    assert len(ENTRIES) == len(ZOO) >= 24
    assert min(Counter(entry.catch for entry in ZOO).values()) >= 8
    for entry in ZOO:
        assert entry.correct in CORRECT
        assert entry.source
        assert entry.breaks.endswith(".")
        known = {"static": set(STATIC_RULES), "probe": PROBES, "dynamic": {"audit"}}[entry.catch]
        assert entry.rule in known, entry.name
    assert set(CORRECT) == {entry.correct for entry in ZOO}


@pytest.mark.parametrize("name", FAST_STATIC)
def test_static_checks_catch_their_entries_on_real_objects(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.rule in {r.rule for r in failures(entry.make().static(seeds=Seeds(1)))}


@pytest.mark.parametrize("name", [entry.name for entry in ZOO if entry.catch == "probe"])
def test_probes_catch_their_entries(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.rule in {r.rule for r in failures(entry.make().probe(seeds=Seeds(1)))}


@pytest.mark.parametrize("name", FAST_DYNAMIC)
def test_audits_catch_their_entries_and_spare_the_correct_trainer(name: str) -> None:
    # The entries are separated almost perfectly; a bound at 0.999 on the correct trainer errs with at most 0.001.
    entry = ENTRIES[name]
    wrong = entry.make().dynamic(seeds=Seeds(2))
    assert wrong.violated
    assert wrong.judged.ceiling > wrong.promised
    assert wrong.judged.confidence == 0.999
    right = CORRECT[entry.correct]().again(seeds=Seeds(2))
    assert not right.violated
    assert right.judged.ceiling > right.promised
    assert right.promised == pytest.approx(wrong.promised)


@pytest.mark.parametrize("name", ["opacus", "opacus, public validation, scaler and group norm", "federated", "release"])
def test_static_checks_and_probes_leave_the_correct_trainers_alone(name: str) -> None:
    # Each noise probe errs with at most 4e-4; the rest is exact.
    subject = CORRECT[name]()
    static = subject.static(seeds=Seeds(3))
    assert not failures(static)
    assert not failures(subject.probe(seeds=Seeds(3)))
    if name.startswith("opacus"):  # nothing passes by silence: every rule was decided
        assert all(r.passed for r in static), [r.rule for r in static if not r.passed]


def test_what_the_record_says_comes_from_the_objects() -> None:
    def record(**parts: Any) -> Any:
        trainer = OpacusTrainer(**parts)
        return record_of(trainer, trainer.fit(SMALL, seeds=Seeds(4)), SMALL, seeds=Seeds(4))

    right = record(after_epoch=stop_on_public)
    assert right.sampler_real is Sampler.POISSON
    assert (right.steps_accounted, right.steps_real, right.steps_with_noise) == (20, 20, 20)
    assert right.divisor is Divisor.PUBLIC
    assert len(set(right.noise_seeds)) == 20
    assert right.selected_on_private == ()
    assert right.claim.epsilon == pytest.approx(record(adjacency=Adjacency.REPLACE_ONE).claim.epsilon)
    assert record(sampling="shuffle").sampler_real is Sampler.SHUFFLE
    assert record(optimizer=None).divisor is Divisor.PRIVATE_ROWS
    assert record(after_epoch=stop_on_holdout).selected_on_private == ("selection",)
    assert record(copies=8).units_per_record == 8
    assert record(optimizer=NoNoise).parameters is None  # an overridden method is not guessed


def test_workers_with_one_seed_draw_the_same_places() -> None:
    for shared, streams in ((True, 1), (False, 8)):
        with Ranks(shared).samplers(seeds=Seeds(5)) as samplers:
            assert sampling_streams(samplers) == streams


def test_simulated_canaries_follow_the_law_written_out_step_by_step() -> None:
    # Two KS tests at 1e-4 each, fixed seeds.
    scale = replace(THOUSAND, epochs=1)
    game = CanaryGame(scale)
    inside = np.arange(scale.canaries) % 2 == 0
    rng = np.random.default_rng(7)
    naive = np.zeros(scale.canaries)
    sigma = scale.noise_multiplier / 2
    for canary in range(scale.canaries):
        for _ in range(game.steps):
            drawn = rng.random() < game.rate
            x = rng.normal() * scale.noise_multiplier + (1.0 if drawn and inside[canary] else 0.0)
            naive[canary] += np.log(1 - game.rate + game.rate * np.exp((2 * x - 1) / (2 * sigma**2)))
    simulated = game.simulated_scores(inside, seeds=Seeds(8))
    for side in (inside, ~inside):
        assert stats.ks_2samp(naive[side], simulated[side]).pvalue > 1e-4


def test_simulated_canaries_and_shuffles_follow_real_opacus() -> None:
    # Four KS tests at 1e-4 each, fixed seeds.
    scale = Scale(rows=100, canaries=900, batch=20, epochs=4, guesses=100)
    fit = OpacusTrainer().fit(scale, seeds=Seeds(9))
    simulated = CanaryGame(scale).simulated_scores(fit.inside, seeds=Seeds(10))
    for side in (fit.inside, ~fit.inside):
        assert stats.ks_2samp(fit.scores[side], simulated[side]).pvalue > 1e-4
    assert all(a.holds for a in shuffled(seeds=Seeds(11), runs=40))


def test_a_trainer_that_is_right_is_reported_as_missed() -> None:
    entry = replace(ENTRIES["half-precision-noise"], make=ReleaseSubject)
    (outcome,) = examine_all([entry], seeds=Seeds(12), say=silent)
    assert not outcome.caught
    results = Results((outcome,), (), (), elapsed=1.0, processor=1.0)
    assert not results.good


def test_only_the_named_kind_of_check_counts() -> None:
    seen = examine(ReleaseSubject(half_precision_noise), seeds=Seeds(13))
    entry = ENTRIES["half-precision-noise"]
    assert Outcome(entry, seen, 0.0).caught
    assert Outcome(entry, seen, 0.0).bonus == ()
    other = replace(entry, catch="probe", rule="probe.noise-law")
    assert not Outcome(other, seen, 0.0).caught
    assert Outcome(other, seen, 0.0).bonus == ("dynamic",)


def test_false_alarms_are_counted_and_reported() -> None:
    (right,) = alarm_all({"release": ReleaseSubject}, audits=20, real=1, checks=3, seeds=Seeds(14), say=silent)
    assert (right.audits, right.real_audits, right.alarms, right.static_alarms, right.probe_alarms) == (20, 20, 0, 0, 0)
    broken = {"broken": lambda: ReleaseSubject(half_precision_noise)}
    (wrong,) = alarm_all(broken, audits=3, real=3, checks=1, seeds=Seeds(14), say=silent)
    assert (wrong.alarms, wrong.false_claims) == (3, 3)
    results = Results((), (right, wrong), (), elapsed=1.0, processor=1.0)
    assert not results.good
    assert "3 in 23 audits" in markdown(results)
    json.dumps(results.to_json())


@pytest.mark.slow
def test_the_whole_zoo(tmp_path: Path) -> None:
    assert suite.run(tmp_path) == 0
    written = json.loads((tmp_path / "broken.json").read_text())
    assert written["caught"] == written["entries"] == len(ZOO)
    assert written["false_alarms"] == 0
    assert written["audits"] >= 200
    assert all(a["p_value"] >= 1e-4 for a in written["agreement"])
    for entry in written["zoo"]:
        if entry["catch"] == "dynamic":
            assert entry["audit"]["judged"]["ceiling"] > entry["audit"]["claim"]
