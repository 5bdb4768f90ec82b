from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from leakgauge.benchmarks.federated_audit import CASES, CHEAP, LIMIT, SHARE, audits, digits, report
from leakgauge.benchmarks.federated_speed import Timing, linearity, measure
from leakgauge.trainers.federated.trainer import Federated

BROKEN = [case for case in CASES if case.must == "above"]


@pytest.mark.parametrize("case", BROKEN, ids=lambda c: c.name)
def test_each_broken_server_is_caught(case: object) -> None:
    (run,) = audits(dataclasses.replace(case, runs=1))  # type: ignore[type-var]
    assert run.judged > run.promised


def test_correct_runs_stay_below_their_claim_and_the_report_sees_it() -> None:
    few = [dataclasses.replace(case, runs=2 if case.trainer is CHEAP else 1) for case in CASES if case.must == "below"]
    runs = [run for case in few for run in audits(case)]
    assert all(run.judged <= run.promised < run.ceiling for run in runs)
    # The report judges every case: add one lone run for those left out.
    lone = [dataclasses.replace(runs[0], case=case.name) for case in CASES if case.must != "below"]
    table, good = report(runs + lone)
    assert not good  # broken servers that were not caught
    lines = table.splitlines()
    for case in CASES[1:]:
        (line,) = (text for text in lines if text.startswith(f"| {case.name} |"))
        assert line.endswith("NO |") == (case in BROKEN)


@pytest.mark.slow
def test_the_attack_reaches_its_share_of_the_limit() -> None:
    """20 runs of a median 0.46 where 0.41 is asked; the median's standard error is 0.03."""
    assert np.median([run.reported for run in audits(CASES[0])]) >= SHARE * LIMIT


@pytest.mark.slow
def test_a_hundred_correct_runs_never_certify_above_their_claim() -> None:
    runs = audits(CASES[1])
    assert len(runs) >= 100
    assert not any(run.judged > run.promised for run in runs)


def test_the_cost_of_a_round_is_linear_in_the_cohort_by_its_own_measure() -> None:
    line = [Timing("x", c, 5, 0.1 + 0.01 * c) for c in (50, 100, 200, 400)]
    bent = [Timing("x", c, 5, (c / 100) ** 4) for c in (50, 100, 200, 400, 800)]
    assert linearity(line) > 0.999999
    assert linearity(bent) < 0.9


def test_a_thousand_clients_train_in_seconds() -> None:
    """A loose limit, since test machines are shared; the benchmark measures."""
    trainer = Federated(hidden=(128,), clients=1000, cohort=1000, rounds=2)
    assert measure("two rounds", trainer, digits()).seconds < 30
