"""The benchmark's table and requirements on figures made up here, and how it resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from leakgauge.audit.config import load_config
from leakgauge.audit.errors import PrerequisiteError
from leakgauge.benchmarks import supermask_minilm
from leakgauge.benchmarks.supermask_minilm import FEDERATED, Cell, run, sentences, ways
from leakgauge.benchmarks.supermask_minilm_report import FINE_TUNED, HEAD, MASK, checks, mean_interval, report

SUITE = Path(supermask_minilm.__file__).parent / "suites" / "supermask-sst2.toml"


def cell(way: str, seed: int, right: int) -> Cell:
    sent = 663_648.0 if way == FEDERATED else 0.0
    return Cell(way, seed, right, 1000, 0.9, 1000, 0.55, 20, 10, 663_648, sent, 10 * sent, None, 60.0)


def rows(**right: list[int]) -> list[dict[str, Any]]:
    names = {"head": HEAD, "fine": FINE_TUNED, "mask": MASK, "federated": FEDERATED}
    return [
        {field: getattr(one, field) for field in Cell.__dataclass_fields__}
        for key, values in right.items()
        for one in (cell(names[key], seed, value) for seed, value in enumerate(values))
    ]


@pytest.mark.parametrize(
    ("right", "met"),
    [
        ({"head": [780, 790], "fine": [840, 850], "mask": [820, 830], "federated": [800, 810]}, [1, 1, 1, 1]),
        ({"head": [780, 790], "fine": [860, 870], "mask": [820, 830], "federated": [800, 810]}, [0, 1, 1, 0]),
        ({"head": [810, 820], "fine": [840, 850], "mask": [820, 830], "federated": [760, 770]}, [1, 0, 0, 0]),
        ({"head": [780, 790], "mask": [820, 830]}, [1]),
    ],
)
def test_requirements_are_on_means_over_seeds(right: dict[str, list[int]], met: list[int]) -> None:
    assert [int(v) for v in checks(rows(**right)).values()] == met


def test_the_interval_is_that_of_student() -> None:
    values = np.array([0.83, 0.84, 0.82, 0.85])
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(mean_interval(values), (0.835, expected.low, expected.high))
    assert np.isnan(mean_interval(values[:1])[1:]).all()


def test_the_table_pairs_differences_by_seed() -> None:
    """Seeds in any order; the difference is 0.02 for each of them, whatever the seeds' own levels."""
    made = rows(head=[780, 700], fine=[840, 760], mask=[820, 740])
    text = report([made[1], made[0], *made[2:]])
    line = next(line for line in text.splitlines() if line.startswith("| mask |"))
    assert "-0.020 [-0.020, -0.020]" in line
    assert "+0.040 [+0.040, +0.040]" in line
    assert "663,648" in line
    assert "* yes: mask minus head alone: +4.0 points (at least +2)" in text


def test_a_stored_model_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[str, int]] = []

    def measured(way: str, trainer: object, seed: int, device: str = "cpu") -> Cell:
        trained.append((way, seed))
        return cell(way, seed, {HEAD: 780, FINE_TUNED: 840}.get(way, 830))

    monkeypatch.setattr(supermask_minilm, "measure", measured)
    assert run(tmp_path, seeds=1) == 0
    assert run(tmp_path, seeds=2) == 0
    assert sorted(trained) == sorted((way, seed) for seed in range(2) for way in ways())
    changed = {way: t for way, t in ways().items() if way != MASK} | {MASK: ways()[HEAD]}
    monkeypatch.setattr(supermask_minilm, "ways", lambda: changed)
    run(tmp_path, seeds=2)
    assert trained[2 * len(changed) :] == [(MASK, 0), (MASK, 1)]
    assert (tmp_path / "supermask-minilm.json").is_file()
    assert (tmp_path / "supermask-minilm.md").read_text().count("\n| ") == 4


def test_without_data_the_message_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    supermask_minilm._rows.cache_clear()
    monkeypatch.setenv("LEAKGAUGE_DATA", str(tmp_path))
    with pytest.raises(PrerequisiteError, match="LEAKGAUGE_DATA"):
        sentences(0)


def test_the_suite_names_the_trainers_of_the_benchmark() -> None:
    """One set of settings: what the suite audits is what the table measures."""
    config = load_config(SUITE)
    written = {section.identity: section for section in config.trainer}
    names = {"head": HEAD, "fine-tuned": FINE_TUNED, "mask": MASK, "federated-mask": FEDERATED}
    assert set(written) == set(names)
    for own, way in names.items():
        trainer = ways()[way]
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in written[own].parameters.items()}
        assert trainer.name == written[own].name
        assert type(trainer)(**given) == trainer
