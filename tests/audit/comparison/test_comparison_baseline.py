from __future__ import annotations

import json

import pytest

from leakgauge.audit.comparison import build_baseline, read_baseline, write_baseline
from leakgauge.audit.errors import ConfigError, IncompatibleError, StaleArtifactError


def test_a_baseline_survives_its_file(baseline, tmp_path):
    path = tmp_path / "folder" / "baseline.json"
    write_baseline(baseline, path)
    assert read_baseline(path) == baseline
    first = path.read_bytes()
    write_baseline(read_baseline(path), path)
    assert path.read_bytes() == first
    assert len(first) < 5000
    assert b'"successes": [' in first


def test_a_baseline_holds_what_the_runs_showed(make, baseline):
    figures = baseline.findings[0].figures
    runs = [make.document(seed) for seed in range(1, 6)]
    assert baseline.seeds == [1, 2, 3, 4, 5]
    assert baseline.findings[0].statistic == "auc"
    assert figures["guesses"].successes == [r["findings"][0]["bound"]["counts"]["correct"] for r in runs]
    assert figures["auc"].value == pytest.approx([r["findings"][0]["metrics"]["auc"]["value"] for r in runs], abs=1e-6)
    counts = [r["findings"][0]["metrics"]["counts"] for r in runs]
    assert figures["tpr@0.1"].successes == [c["thresholds"]["0.1"]["true_positives"] for c in counts]
    assert figures["tpr@0.1"].trials == [c["members"] for c in counts]
    assert baseline.created == "2026-11-21T08:05:00Z"
    assert baseline.claims[0]["epsilon"] == 3.0


def test_crafted_canaries_are_compared_by_guesses(make):
    runs = [make.document(s, [make.finding(s, rule="canary.canary")]) for s in range(5)]
    assert build_baseline(runs).findings[0].statistic == "guesses"
    assert build_baseline(runs, statistic="tpr@0.1").findings[0].statistic == "tpr@0.1"
    with pytest.raises(ConfigError, match=r"tpr@0\.2.*tpr@0\.1"):
        build_baseline(runs, statistic="tpr@0.2")


def test_games_are_compared_by_hits_or_measures(make):
    def game(seed: int, better: str | None = "higher") -> dict:
        row = {"value": 20.0 + seed, "low": 18.0 + seed, "high": 22.0 + seed, "n": 10, "better": better}
        metrics = {"measures": {"psnr": row, "note": {"value": 1.0, "better": None}}}
        return make.finding(seed, attack="inversion", metrics=metrics, bound=None)

    found = build_baseline([make.document(s, [game(s)]) for s in range(5)]).findings[0]
    assert found.statistic == "measure:psnr"
    assert list(found.figures) == ["measure:psnr"]
    assert [o.scaled for o in found.figures["measure:psnr"].observations()] == [-20.0, -21.0, -22.0, -23.0, -24.0]
    hits = {"counts": {"runs": 100.0, "hits": 30.0, "pool": 10.0, "top": 1.0}}
    runs = [make.document(s, [{**game(s), "bound": {**make.finding(s)["bound"], **hits}}]) for s in range(5)]
    assert build_baseline(runs).findings[0].statistic == "hits"


def test_a_commit_is_noted(make, monkeypatch):
    monkeypatch.setenv("GITHUB_SHA", "abc123")
    runs = [make.document(s) for s in range(5)]
    assert build_baseline(runs).commit == "abc123"
    assert build_baseline(runs, commit="mine").commit == "mine"


def test_a_failed_seed_leaves_a_gap(make):
    failed = make.finding(9, verdict="error", metrics=None, bound=None, claim=None)
    runs = [*(make.document(s) for s in range(5)), make.document(9, [failed])]
    found = build_baseline(runs).findings[0]
    assert found.verdicts[-1] == "error"
    assert found.figures["auc"].value[-1] is None
    assert len(found.figures["auc"].observations()) == 5
    few = build_baseline([*runs[:4], *(make.document(s, [failed]) for s in (20, 21))])
    assert few.findings[0].statistic is None


@pytest.mark.parametrize(
    ("seeds", "changes", "error", "words"),
    [
        ([1, 2, 3, 4], {}, ConfigError, "at least 5 seeds, got 4"),
        ([1, 2, 3, 4, 4], {}, ConfigError, "seed 4"),
        ([1, 2, 3, 4, None], {}, ConfigError, "absent"),
        ([1, 2, 3, 4, 5], {"access": ["labels"]}, IncompatibleError, "design: access"),
        ([1, 2, 3, 4, 5], {"name": "other"}, IncompatibleError, "'other'"),
        ([1, 2, 3, 4, 5], {"findings": []}, IncompatibleError, "missing in some runs"),
    ],
)
def test_runs_that_make_no_baseline_are_refused(make, seeds, changes, error, words):
    runs = [make.document(s or 0) for s in seeds]
    for run, seed in zip(runs, seeds, strict=True):
        run["provenance"]["seed"] = seed
    runs[-1] |= changes
    with pytest.raises(error, match=words):
        build_baseline(runs)


def test_trainers_must_be_the_same(make):
    runs = [make.document(s) for s in range(5)]
    runs[2]["system"]["trainers"][0]["spec"]["noise_multiplier"] = 0.5
    with pytest.raises(IncompatibleError, match=r"dp-sgd\.noise_multiplier: 1\.0 and 0\.5"):
        build_baseline(runs)


def test_a_single_run_is_no_baseline(make, tmp_path):
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(make.document(1)))
    with pytest.raises(ConfigError, match=r"one run and no baseline.*--update"):
        read_baseline(path)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda d: d.update(schema="leakgauge/baseline/9"), ConfigError, "baseline/9"),
        (lambda d: d.update(extra=1), StaleArtifactError, "extra"),
        (lambda d: d["seeds"].pop(), StaleArtifactError, "seeds"),
        (lambda d: d["findings"][0]["figures"]["guesses"]["successes"].pop(), StaleArtifactError, "length"),
        (lambda d: d["findings"][0].update(statistic="tpr@0.5"), StaleArtifactError, "tpr@0.5"),
        (lambda d: d["findings"][0]["figures"].update(guesses={"trials": [1] * 5}), StaleArtifactError, "successes"),
    ],
)
def test_damaged_files_are_refused_with_their_place(baseline, tmp_path, change, error, words):
    path = tmp_path / "baseline.json"
    write_baseline(baseline, path)
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored))
    with pytest.raises(error, match=words):
        read_baseline(path)


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(ConfigError, match="leakgauge baseline"):
        read_baseline(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"schema": ')
    with pytest.raises(StaleArtifactError, match="corrupt"):
        read_baseline(tmp_path / "half.json")
