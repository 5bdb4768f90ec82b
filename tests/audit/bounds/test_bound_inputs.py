"""Bad input gets a one-line error that names the thing and the value."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from leakgauge.audit.bounds import (
    Bayesian,
    ClopperPearson,
    ConfusionCounts,
    Gdp,
    GuessCounts,
    GuessSequence,
    KAry,
    KAryMarkov,
    OneRun,
    OneRunAnytime,
    OneRunFdp,
    PairedOutputs,
    RankCounts,
    Sequential,
    SlotCounts,
    certify_named,
    may_decide,
    refuse_outside_family,
)
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.registry import BOUNDS
from leakgauge.audit.types import Selection

GUESSES = GuessCounts(1000, 100, 90)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GuessCounts(1000, 100, 101), r"correct must not exceed guesses \(100\), got 101"),
        (lambda: GuessCounts(100, 101, 5), "guesses must not exceed canaries"),
        (lambda: GuessCounts(9, 5, 5), "canaries must be at least 10, got 9"),
        (lambda: GuessCounts(100, 0, 0), "guesses must be at least 1"),
        (lambda: GuessCounts(100, 10, -1), "correct must not be negative, got -1"),
        (lambda: GuessCounts(100, 10, 2.5), "correct must be an integer, got 2.5"),
        (lambda: GuessCounts(100, 10, True), "correct must be an integer, got True"),
        (lambda: GuessCounts(100, 10, "x"), "correct must be an integer, got 'x'"),
        (lambda: ConfusionCounts(11, 0, 10, 10), "true_positives must not exceed members"),
        (lambda: ConfusionCounts(1, 11, 10, 10), "false_positives must not exceed nonmembers"),
        (lambda: ConfusionCounts(0, 1, 0, 10), "members must be at least 1, got 0"),
        (lambda: ConfusionCounts(1, 0, 10, 0), "nonmembers must be at least 1, got 0"),
        (lambda: RankCounts(10, 11, 100, 1), "hits must not exceed runs"),
        (lambda: RankCounts(10, 1, 100, 101), "top must not exceed pool"),
        (lambda: RankCounts(10, 1, 1, 1), "pool must be at least 2"),
        (lambda: SlotCounts(10, 11, 0.5, 100, 1), "hits must not exceed slots"),
        (lambda: SlotCounts(10, 1, 0.0, 100, 1), "fill_probability must lie strictly between 0 and 1, got 0.0"),
        (lambda: SlotCounts(10, 1, float("nan"), 100, 1), "fill_probability"),
        (lambda: SlotCounts(10, 1, "much", 100, 1), "fill_probability must be a number, got 'much'"),
        (lambda: GuessSequence((True,) * 11, 10), "11 guesses for 10 canaries"),
        (lambda: GuessSequence((), 10), "0 guesses"),
        (lambda: GuessSequence((1, 0, 2), 10), "correct must hold only 0 and 1, got 2"),
        (lambda: GuessSequence(7, 10), "correct must be a sequence"),
        (lambda: PairedOutputs((0.5,), (0.5, 0.5)), "inside has 1 values and outside 2"),
        (lambda: PairedOutputs((1.5,), (0.5,)), r"inside must hold numbers in \[0, 1\], got 1.5"),
        (lambda: PairedOutputs((float("nan"),), (0.5,)), "got nan"),
        (lambda: OneRunFdp("laplace"), "family must be gaussian or dp-sgd"),
        (lambda: OneRunFdp("dp-sgd"), "needs sample_rate and steps"),
        (lambda: OneRunFdp("dp-sgd", 1.5, 10), "sample_rate"),
        (lambda: OneRunFdp("dp-sgd", 0.1, 0), "steps"),
        (lambda: OneRunFdp("gaussian", 0.1, 10), "takes no sample_rate"),
    ],
)
def test_counts_and_parameters_that_cannot_be(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_numpy_integers_are_integers():
    counts = GuessCounts(np.int64(1000), np.int32(100), np.uint8(90))
    assert counts == GUESSES
    assert type(counts.correct) is int


@pytest.mark.parametrize("delta", [-1e-9, 1.0, 2.0, float("nan")])
def test_delta_out_of_range(delta):
    with pytest.raises(ConfigError, match="delta must lie in"):
        OneRun().certify(GUESSES, delta=delta, confidence=0.95)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, 1.5, float("nan")])
def test_confidence_out_of_range(confidence):
    with pytest.raises(ConfigError, match="confidence must lie strictly between 0 and 1"):
        OneRun().certify(GUESSES, delta=0, confidence=confidence)


@pytest.mark.parametrize("share", [0.0, 1.1, -0.5, float("nan")])
def test_alpha_share_out_of_range(share):
    with pytest.raises(ConfigError, match="alpha_share"):
        OneRun().certify(GUESSES, delta=0, confidence=0.95, alpha_share=share)


@pytest.mark.parametrize("method", [Gdp(), OneRunFdp()])
def test_family_bounds_need_delta(method):
    counts = GUESSES if method.counts_type is GuessCounts else ConfusionCounts(9, 1, 10, 10)
    with pytest.raises(ConfigError, match="needs delta > 0"):
        method.certify(counts, delta=0, confidence=0.95)


def test_counts_of_another_design_are_refused():
    with pytest.raises(IncompatibleError, match="clopper-pearson needs ConfusionCounts, got GuessCounts"):
        ClopperPearson().certify(GUESSES, delta=0, confidence=0.95)


def test_selection_rules():
    with pytest.raises(IncompatibleError, match="not at every stopping point"):
        OneRun().certify(GUESSES, delta=0, confidence=0.95, selection=Selection("anytime"))
    sequence = GuessSequence((True,) * 20, 100)
    bound = OneRunAnytime().certify(sequence, delta=0, confidence=0.95, selection=Selection("anytime"))
    assert bound.epsilon > 1
    with pytest.raises(IncompatibleError, match="no valid rule"):
        Selection("fixed", 7)


def test_family_check():
    for name in ("randomized-response", "laplace", "supermask", "unknown"):
        for method in (Gdp(), OneRunFdp(), OneRunFdp("dp-sgd", 0.01, 1000)):
            with pytest.raises(IncompatibleError, match="assert the family"):
                refuse_outside_family(method, name, False)
            refuse_outside_family(method, name, True)
        for method in (OneRun(), ClopperPearson(), Bayesian(), KAry(), Sequential()):
            refuse_outside_family(method, name, False)
    refuse_outside_family(Gdp(), "gaussian", False)
    refuse_outside_family(OneRunFdp("dp-sgd", 0.01, 1000), "dp-sgd", False)


def test_what_may_decide():
    assert may_decide(OneRun(), "unknown", 1e-5)
    assert may_decide(OneRunFdp("dp-sgd", 0.01, 1000), "dp-sgd", 1e-5)
    assert may_decide(Gdp(), "gaussian", 1e-5)
    assert not may_decide(Gdp(), "dp-sgd", 1e-5)
    assert not may_decide(Bayesian(), "gaussian", 1e-5)
    assert may_decide(KAry(), "unknown", 0.0)
    assert not may_decide(KAry(), "unknown", 1e-5)
    assert may_decide(KAryMarkov(), "unknown", 1e-5)
    assert not may_decide(OneRunAnytime(), "unknown", 1e-5)


def test_by_name_equals_by_class():
    named = certify_named("one-run", {"canaries": 1000, "guesses": 100, "correct": 90}, delta=1e-5, confidence=0.95)
    assert named == OneRun().certify(GUESSES, delta=1e-5, confidence=0.95)
    counts = {"true-positives": 9, "false_positives": 1, "members": 10, "nonmembers": 10}
    assert certify_named("clopper-pearson", counts, delta=0, confidence=0.9).epsilon > 0
    counts = {"canaries": 1000, "guesses": 100, "correct": 90, "family": "gaussian", "steps": None}
    assert certify_named("one-run-fdp", counts, delta=1e-5, confidence=0.95).null_class == "gdp"
    counts.pop("family")
    assert certify_named("one-run-fdp", counts, delta=1e-5, confidence=0.95, family="gaussian").null_class == "gdp"


@pytest.mark.parametrize(
    ("method", "counts", "message"),
    [
        ("one-run", {"canaries": 1000, "correct": 90}, "one-run needs --guesses$"),
        ("one-run", {}, "one-run needs --canaries and --guesses and --correct"),
        (
            "one-run",
            {"canaries": 10, "guesses": 5, "corect": 3, "correct": 3},
            "takes no --corect; did you mean '--cor",
        ),
        ("one-run", {"canaries": 10, "guesses": 5, "correct": 3, "pool": 9}, "one-run takes no --pool"),
        ("one-run", {"canaries": 10, "guesses": 5, "correct": 3, "family": "gaussian"}, "one-run takes no --family"),
        ("one-run-anytime", {"canaries": 100}, "one-run-anytime needs --guesses-file$"),
        ("one-run-anytime", {"canaries": 100, "guesses_file": "/nonexistent"}, "--guesses-file /nonexistent"),
        ("one-rnu", {}, "unknown bound 'one-rnu'; did you mean 'one-run'"),
        ("rank", {"runs": 10, "hits": 3, "pool": 100}, "rank needs --top"),
    ],
)
def test_by_name_names_the_option(method, counts, message):
    with pytest.raises(ConfigError, match=message):
        certify_named(method, counts, delta=0, confidence=0.95)


def test_guesses_from_a_file(tmp_path):
    path = tmp_path / "guesses.txt"
    path.write_text("1\n1\n1\n1\n0\n1\n")
    bound = certify_named("one-run-anytime", {"canaries": 100, "guesses_file": str(path)}, delta=0, confidence=0.95)
    assert bound.counts == {"canaries": 100, "guesses": 6, "correct": 5}
    path.write_text("1\nyes\n")
    with pytest.raises(ConfigError, match="one number a line"):
        certify_named("one-run-anytime", {"canaries": 100, "guesses_file": str(path)}, delta=0, confidence=0.95)
    path.write_text("1\n2\n")
    with pytest.raises(ConfigError, match="only 0 and 1"):
        certify_named("one-run-anytime", {"canaries": 100, "guesses_file": str(path)}, delta=0, confidence=0.95)


def test_every_registered_bound_loads_under_its_name():
    for name in BOUNDS.built_in:
        assert BOUNDS.load(name).name == name


def test_bounds_import_no_torch():
    code = "import sys, leakgauge.audit.bounds; sys.exit('torch' in sys.modules or 'dp_accounting' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
