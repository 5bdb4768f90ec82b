from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from leakgauge.audit.errors import ConfigError, PrerequisiteError
from leakgauge.audit.registry import ATTACKS, SUITES
from leakgauge.audit.types import Access, Needs, Scores
from leakgauge.benchmarks.attacks import cases, plots, suite, tables
from leakgauge.benchmarks.attacks.cases import CASES, TRAINERS
from leakgauge.benchmarks.attacks.cell import Arena, arena, measured
from leakgauge.benchmarks.attacks.roster import Entry, roster, unfit
from leakgauge.benchmarks.attacks.suite import Settings, run
from leakgauge.trainers.sgd import Sgd

TINY = Settings(
    shadows=4, targets=2, records=300, datasets=("digits",), trainers=("sgd",), attacks=("loss", "lira", "rmia", "gap")
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One epoch of a small network, whatever the case asks for."""
    monkeypatch.setitem(TRAINERS, "sgd", lambda _, rows: Sgd(epochs=1, hidden=(8,), nominal_rows=rows))


def test_a_tiny_cell_is_played_written_and_resumed(tmp_path, capsys):
    assert SUITES.load("attacks") is run
    assert run(tmp_path, TINY) == 0
    cell = json.loads((tmp_path / "cells" / "digits-sgd.json").read_text())
    labels = [row["attack"] for row in cell["rows"]]
    assert labels[0] == "loss"
    assert {"lira, fixed", "lira, bayesian", "lira, offline", "rmia, online", "gap"} <= set(labels)
    assert all(len(row["auc"]) == 2 and row["error"] is None for row in cell["rows"])
    # 300 records, about 150 non-members: 0.1 % is not measurable, and says so instead of 0.
    assert all(row["tpr_at_0.001"] == [None, None] for row in cell["rows"])
    assert all(0 <= value <= 1 for row in cell["rows"] for value in row["tpr_at_0.01"])
    for name in ("attacks.json", "attacks.md", "attacks-auc.svg", "attacks-tpr.svg"):
        assert (tmp_path / name).stat().st_size > 100
    before = (tmp_path / "cells" / "digits-sgd.json").stat().st_mtime_ns
    assert "digits, sgd" in capsys.readouterr().out
    assert run(tmp_path, TINY) == 0
    assert (tmp_path / "cells" / "digits-sgd.json").stat().st_mtime_ns == before
    assert "1/1" not in capsys.readouterr().out


def test_other_settings_or_attacks_play_the_cell_again(tmp_path):
    entries, _ = roster(4, ("loss",))
    key = suite._key("digits", "sgd", TINY, entries)
    assert key == suite._key("digits", "sgd", TINY, entries)
    more, _ = roster(4, ("loss", "gap"))
    other = Settings(shadows=6, targets=2, records=300)
    assert len({key, suite._key("digits", "sgd", TINY, more), suite._key("digits", "sgd", other, entries)}) == 3
    path = tmp_path / "cell.json"
    assert suite._stored(path, key) is None
    path.write_text("{broken")
    assert suite._stored(path, key) is None
    path.write_text(json.dumps({"key": "another"}))
    assert suite._stored(path, key) is None


def test_every_registered_membership_attack_plays_or_says_why_not():
    entries, skipped = roster(16)
    assert {entry.name for entry in entries} | set(skipped) == set(ATTACKS.names())
    assert {"loss", "lira", "rmia", "meta", "shadow-classifier"} <= {entry.name for entry in entries}
    assert skipped["canary"] == "crafts canaries"
    assert unfit("gradient-canary")
    for entry in entries:
        assert entry.attack.needs.shadows <= 16
        assert entry.needs
    with pytest.raises(ConfigError, match="did you mean 'lira'"):
        roster(4, ("lyra",))
    with pytest.raises(ConfigError, match="none of canary"):
        roster(4, ("canary",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """An attack that cannot."""

    name: ClassVar[str] = "broken"
    needs: ClassVar[Needs] = Needs(access=Access.LOSS)

    def score(self, evidence, *, seeds) -> Scores:
        raise ValueError("no\nluck")


def played() -> Arena:
    audit, population = CASES["digits"].load(300)
    from leakgauge.audit.seeds import Seeds

    trainer = Sgd(epochs=1, hidden=(8,), nominal_rows=150)
    return arena(trainer, audit, population, targets=2, shadows=4, seeds=Seeds(1))


def test_evidence_has_the_models_the_attack_asked_for_and_no_truth():
    here = played()
    entries = {entry.label: entry for entry in roster(4, ("lira", "rmia", "label-only-augment"))[0]}
    seen = here.evidence(entries["rmia, online"], 1)
    n = len(here.audit)
    assert np.array_equal(seen.target, here.log_probabilities[1, :n])
    assert np.array_equal(seen.shadows, here.log_probabilities[2:, :n])
    assert np.array_equal(seen.shadow_inside, here.inside[2:])
    assert np.array_equal(here.inside[2], ~here.inside[3])
    assert np.array_equal(seen.population_target, here.log_probabilities[1, n:])
    asked = here.evidence(entries["label-only-augment"], 0)
    (answers,) = asked.answers.values()
    assert len(answers.target) == n
    assert len(here.asked) == 1  # one query of one model, kept


def test_a_failed_attack_is_a_row_with_its_error():
    row = measured(Entry("broken", "broken", Broken()), played())
    assert row == {"attack": "broken", "needs": "loss", "error": "ValueError: no luck"}


def test_tables_and_plots_leave_nothing_out(tmp_path):
    good = {"needs": "loss", "error": None, "seconds": 0.1, "tpr_at_0.001": [None, None]}
    facts = {"train_accuracy": 0.9, "test_accuracy": 0.8, "training_seconds": 2.0}

    def cell(dataset, trainer, epsilon, *rows):
        return {"dataset": dataset, "trainer": trainer, "claimed_epsilon": epsilon, "rows": list(rows), **facts}

    weak = {"attack": "weak", "auc": [0.5, 0.52], "tpr_at_0.01": [0.01, 0.01], **good}
    strong = {"attack": "strong", "auc": [0.7, 0.8], "tpr_at_0.01": [0.1, 0.2], **good}
    failed = {"attack": "strong", "needs": "loss", "error": "ValueError: x"}
    cells = [
        cell("a", "sgd", None, weak, strong),
        cell("b", "sgd", None, weak, failed),
        cell("a", "dp-sgd-3", 2.9, weak, strong),
    ]
    board = tables.leaderboard(cells).splitlines()
    assert board[2].startswith("| strong | loss | 0.750 / 15.0 (1 of 2) | 0.750 / 15.0 |")
    assert board[3].startswith("| weak | loss | 0.510 / 1.0 | 0.510 / 1.0 |")
    text = tables.markdown(cells, 4, 2, {"canary": "crafts canaries"})
    assert "error" in text
    assert "2.90" in text
    assert "`canary` crafts canaries" in text
    for measure in ("auc", "tpr_at_0.01"):
        plots.plot(cells, measure, tmp_path / "one.svg")
        plots.plot(cells, measure, tmp_path / "two.svg")
    assert "<svg" in (tmp_path / "one.svg").read_text()


def test_settings_and_missing_data_are_refused(monkeypatch):
    for wrong, message in (
        ({"shadows": 5}, "even"),
        ({"targets": 1}, "at least 2 targets"),
        ({"records": 100}, "at least 250"),
    ):
        with pytest.raises(ConfigError, match=message):
            Settings(**wrong)
    monkeypatch.delenv("LEAKGAUGE_DATA", raising=False)
    with pytest.raises(PrerequisiteError, match="LEAKGAUGE_DATA"):
        cases.mnist(300)


@pytest.mark.parametrize("dataset", list(CASES))
def test_every_data_set_loads_where_it_is(dataset, monkeypatch):
    folder = Path(os.environ.get("LEAKGAUGE_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    if dataset != "digits" and not folder.is_dir():
        pytest.skip(f"no data at {folder}: set LEAKGAUGE_DATA")
    monkeypatch.setenv("LEAKGAUGE_DATA", str(folder))
    audit, population = CASES[dataset].load(300)
    assert len(audit) == 300
    assert len(population) >= 100
    assert not set(audit.records) & set(population.records)
    assert audit.features.dtype == np.float32
    for trainer in TRAINERS.values():
        trainer(CASES[dataset], 150)
