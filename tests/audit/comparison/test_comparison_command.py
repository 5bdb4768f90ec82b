"""`leakgauge compare` and `leakgauge baseline` as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from leakgauge.audit import cli
from leakgauge.audit.comparison import read_baseline, write_baseline
from leakgauge.audit.comparison.command import compare_command, update_command
from leakgauge.audit.comparison.seeds import run_seeds
from leakgauge.audit.errors import ConfigError

TINY = """
[audit]
name = "tiny"
seed = 3
delta = 1e-5
[data]
name = "wine"
[design]
audit_records = 120
[trainer]
name = "sgd"
epochs = 2
hidden = [8]
[[attack]]
name = "loss"
guesses = 40
"""


@pytest.fixture
def runs(make, tmp_path):
    paths = []
    for seed in range(1, 6):
        path = tmp_path / f"seed-{seed}" / "audit.json"
        path.parent.mkdir()
        path.write_text(json.dumps(make.document(seed)))
        paths.append(path)
    return paths


def test_update_then_compare(make, runs, tmp_path, capsys):
    path = tmp_path / "baseline.json"
    assert update_command(path, [p.parent for p in runs]) == 0
    assert read_baseline(path).seeds == [1, 2, 3, 4, 5]
    run = tmp_path / "audit.json"
    run.write_text(json.dumps(make.document(9)))
    capsys.readouterr()
    assert compare_command(path, [run], confidence=0.99, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "ok"
    assert update_command(path, runs) == 0
    assert "(was 0." in capsys.readouterr().err


def test_a_github_job_gets_annotations_and_a_summary(make, baseline, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    write_baseline(baseline, tmp_path / "baseline.json")
    run = tmp_path / "audit.json"
    run.write_text(json.dumps(make.document(9, epsilon=9.0)))
    assert compare_command(tmp_path / "baseline.json", [run], confidence=0.99, github=True) == 1
    out = capsys.readouterr().out
    assert f"::error file={tmp_path / 'baseline.json'},line=1,title=claim of dp-sgd%3A regressed::" in out
    assert "the claim is weaker" in (tmp_path / "summary").read_text()


def test_too_few_or_too_many_runs(runs, tmp_path):
    with pytest.raises(ConfigError, match="needs 5"):
        update_command(tmp_path / "b.json", runs[:4])
    with pytest.raises(ConfigError, match="5 runs given"):
        compare_command(tmp_path / "b.json", runs, confidence=0.99)


def test_mistakes_are_one_line_and_exit_2(runs, tmp_path):
    command = [sys.executable, "-m", "leakgauge", "compare", str(tmp_path / "none.json"), str(runs[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "leakgauge baseline" in done.stderr


def test_seeds_after_the_files_own_make_the_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "audit.toml"
    file.write_text(TINY)
    paths = run_seeds(file, 5, None, ["trainer.epochs=1"], device="cpu", quiet=True)
    documents = [json.loads(p.read_text()) for p in paths]
    assert [d["provenance"]["seed"] for d in documents] == [4, 5, 6, 7, 8]
    assert {d["system"]["trainers"][0]["spec"]["epochs"] for d in documents} == {1}
    assert len({d["findings"][0]["metrics"]["auc"]["value"] for d in documents}) > 1
    assert update_command(tmp_path / "baseline.json", paths) == 0
    assert read_baseline(tmp_path / "baseline.json").findings[0].statistic == "auc"


def test_existing_models_have_no_seeds(tmp_path):
    file = tmp_path / "audit.toml"
    file.write_text(
        '[audit]\nname = "x"\n[data]\nname = "wine"\n[target]\npredict = "a:b"\n[design]\nmembership = "m.csv"\n'
        '[[attack]]\nname = "loss"\n'
    )
    with pytest.raises(ConfigError, match="no seed trains again"):
        run_seeds(file, 5, None, [], device="cpu", quiet=True)
    with pytest.raises(ConfigError, match="at least 5"):
        run_seeds(file, 4, None, [], device="cpu", quiet=True)


def test_plan_takes_several_files(tmp_path, capsys):
    file = tmp_path / "audit.toml"
    file.write_text(TINY)
    cli.plan([file], as_json=True)
    assert json.loads(capsys.readouterr().out)["name"] == "tiny"
    cli.plan([file, file], as_json=True)
    assert [d["name"] for d in json.loads(capsys.readouterr().out)] == ["tiny", "tiny"]
