"""The plugin inside pytest runs of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TINY = """
[audit]
name = "tiny"
delta = 1e-5
[data]
name = "wine"
[design]
audit_records = 120
[trainer]
name = "sgd"
epochs = 1
hidden = [4]
[[attack]]
name = "loss"
guesses = 40
"""
TESTS = """
import sys
import pytest

def test_light():
    assert not {"torch", "scipy", "pandas", "sklearn"} & set(sys.modules)

def test_run_load_and_cache(audit):
    run = audit("tiny.toml")
    assert audit("tiny.toml") is run
    assert audit("tiny.toml", "audit.seed=7") is not run
    assert (run.verdict, run.exit_code) == ("no-claim", 0)
    assert run.finding("loss")["trainer"] == "sgd"
    loaded = audit(run.folder)
    assert loaded.document == run.document
    assert audit(run.folder / "audit.json").verdict == "no-claim"
    with pytest.raises(LookupError, match="0 findings"):
        run.finding("lira")

@pytest.mark.leakgauge_slow
def test_slow():
    pass
"""


def run_pytest(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "tiny.toml").write_text(TINY)
    (folder / "test_inner.py").write_text(TESTS)
    bare = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env={**bare, "OMP_NUM_THREADS": "1"})


def test_fixture_marker_and_lightness(tmp_path):
    done = run_pytest(tmp_path, "--leakgauge-runs", str(tmp_path / "kept"))
    assert "2 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert len(list((tmp_path / "kept").glob("tiny-*/audit.json"))) == 2


def test_slow_audits_run_when_asked_for(tmp_path):
    done = run_pytest(tmp_path, "--leakgauge-slow", "-k", "slow or light")
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    markers = run_pytest(tmp_path, "--markers").stdout
    assert "leakgauge_slow" in markers
