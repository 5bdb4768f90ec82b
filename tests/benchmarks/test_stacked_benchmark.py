from __future__ import annotations

from pathlib import Path

import pytest

from leakgauge.benchmarks import stacked
from leakgauge.trainers.sgd import Sgd

SMALL = {"small": stacked.Case(Sgd(epochs=0.5, nominal_rows=600), 8)}


def test_two_processes_on_both_sides_train_the_same_models(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(stacked, "CASES", SMALL)
    monkeypatch.setattr(stacked, "REPEATS", 2)
    assert stacked.run(tmp_path) == 0
    table = (tmp_path / "stacked.md").read_text()
    assert table == capsys.readouterr().out
    assert "| small | 5 |" in table


def test_rounds_hold_what_was_measured() -> None:
    (found,) = stacked.compare(SMALL, stack=4, alone=3, repeats=2)
    assert [r.models for r in (*found.alone, *found.stacked)] == [6, 6, 8, 8]
    assert {step for r in (*found.alone, *found.stacked) for step in r.steps} == {5}
    assert found.alone[0].numbers == (0, 1, 2, 4, 5, 6)
    assert found.alone[1].numbers == (1, 2, 3, 5, 6, 7)
    assert found.stacked[0].numbers == tuple(range(8))
    # The same models on both sides: the same guesses, up to one record of 600 by rounding.
    assert found.accuracy(found.alone) == pytest.approx(found.accuracy(found.stacked), abs=2e-3)
    assert all(r.seconds > 0 and r.cpu > 0 for r in (*found.alone, *found.stacked))


def test_a_dead_worker_is_an_error() -> None:
    with stacked.Workers(1) as workers, pytest.raises(RuntimeError, match="a benchmark worker ended with exit code"):
        workers.turn(Sgd(model="no-such:model"), stacked=True, first=[0], models=2)


@pytest.mark.slow
def test_stacking_pays() -> None:
    """Measured 7 to 8 on two cores of a busy machine, in CPU seconds; the slack is for a busier one."""
    (found,) = stacked.compare({"mlp": stacked.CASES["mlp"]}, repeats=3)
    assert found.cpu_speedup >= 4.5
