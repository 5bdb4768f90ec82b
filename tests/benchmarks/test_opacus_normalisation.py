from __future__ import annotations

import numpy as np
import pytest

from leakgauge.audit.seeds import Seeds
from leakgauge.benchmarks import opacus_normalisation as leak


def test_released_opacus_is_found_with_forty_runs_a_side() -> None:
    # Power 1.000 at 40 a side (theory note, section 8); fixed seed.
    seen = leak.audit("opacus", 2.0, seeds=Seeds(1), runs=40)
    assert seen.verdict == "violated"
    assert seen.judged.epsilon > seen.claim.epsilon == pytest.approx(0.7985, abs=1e-3)


def test_a_fixed_divisor_is_not() -> None:
    seen = leak.audit("fixed", 2.0, seeds=Seeds(1), runs=20)
    assert seen.reported.epsilon == 0
    assert seen.verdict != "violated"


def test_the_threshold_lies_between_the_two_variances() -> None:
    # 1000 weights: the relative standard deviation of a variance is 4.5 %, the variances are 23 % apart; fixed seed.
    expected = {100: 10 * 4 / 100, 99: 10 * 4 / 81}
    assert expected[100] < leak.midpoint_variance(2.0) < expected[99]
    for rows, variance in expected.items():
        seen = [leak.final_weights(rows, "opacus", 2.0, seeds=Seeds(3).at(rows, i)).var() for i in range(4)]
        assert np.mean(seen) == pytest.approx(variance, rel=0.08)


def test_the_command_prints_versions_claim_bound_and_ceiling(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(leak, "RUNS", 40)
    assert leak.run(tmp_path) == 1
    text = capsys.readouterr().out
    assert "Opacus 1.6" in text
    assert "| violated |" in text
    assert "ceiling" in text
    assert (tmp_path / "opacus-normalisation.md").read_text() == text
    assert (tmp_path / "opacus-normalisation.json").is_file()
