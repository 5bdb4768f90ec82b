from __future__ import annotations

from pathlib import Path

import pytest

from leakgauge.benchmarks import stacked
from leakgauge.trainers.sgd import Sgd


def test_measures_both_ways_and_writes_a_table(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(stacked, "CASES", {"small": Sgd(epochs=0.5, nominal_rows=600)})
    monkeypatch.setattr(stacked, "MODELS", 4)
    assert stacked.run(tmp_path) == 0
    table = (tmp_path / "stacked.md").read_text()
    assert table == capsys.readouterr().out
    assert "| small | 5 |" in table


@pytest.mark.slow
def test_stacking_pays() -> None:
    """At least six times faster a model; measured 7 on one quiet core."""
    timing = stacked.measure("mlp", stacked.CASES["mlp"], stacked.digits())
    assert timing.speedup >= 6
