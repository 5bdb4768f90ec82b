"""The scoring benchmark on small cases: its oracle can tell, its memory is what scoring holds, its table says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from leakgauge.audit.answers import Stack
from leakgauge.benchmarks import scoring
from leakgauge.benchmarks.scoring import Case, Cost

SMALL = Case("rmia", records=3000, population=500, shadows=4, seconds=30.0, megabytes=1000.0)


def test_a_case_is_measured_in_processes_of_its_own_and_equals_the_definition() -> None:
    cost = scoring.measured(SMALL)
    assert cost.error == 0
    assert cost.within
    assert 10 < cost.idle <= cost.peak
    assert cost.cpu_seconds > 0


@pytest.mark.parametrize("attack", ["rmia", "rmia-offline", "rmia-tuned"])
def test_the_oracle_agrees_and_notices_a_wrong_score(tmp_path: Path, attack: str) -> None:
    case = replace(SMALL, attack=attack, records=600)
    scoring.write_answers(tmp_path, case)
    scoring.score_answers(tmp_path, case)
    assert scoring.compare_with_definition(tmp_path, case)["error"] == 0
    scores = np.load(tmp_path / "scores.npy")
    scores[7] += 1 / (case.population + 1)
    np.save(tmp_path / "scores.npy", scores)
    assert scoring.compare_with_definition(tmp_path, case)["error"] > 1e-4


def test_answers_are_read_from_disk_one_model_after_another(tmp_path: Path) -> None:
    case = replace(SMALL, attack="lira", population=0)
    scoring.write_answers(tmp_path, case)
    evidence = scoring.evidence_of(tmp_path, case)
    assert isinstance(evidence.shadows, Stack)
    assert isinstance(evidence.shadows[0], np.memmap)
    assert evidence.shadows.shape == (4, 3000, 10)
    assert scoring.score_answers(tmp_path, case)["seconds"] > 0


def test_the_table_says_what_was_broken() -> None:
    kept = Cost(SMALL, seconds=1.0, cpu_seconds=1.0, idle=100.0, peak=900.0, error=0.0)
    slow, fat, wrong = replace(kept, seconds=31.0), replace(kept, peak=1001.0), replace(kept, error=1e-9)
    assert kept.within
    assert not any(cost.within for cost in (slow, fat, wrong))
    table = scoring.markdown([kept, slow])
    assert "30 s, 1000 MB: kept" in table
    assert "30 s, 1000 MB: BROKEN" in table
