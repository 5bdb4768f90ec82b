"""A package of somebody else, installed by pip, is found by name, runs in an audit, and keeps the contracts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "plugin_package"
AUDIT = """
[audit]
name = "rings"
delta = 1e-5
[data]
name = "rings"
[trainer]
name = "nearest-mean"
[[attack]]
name = "margin"
guesses = 100
"""
CONTRACTS = """
from pathlib import Path
from leakgauge.audit.registry import ATTACKS, BOUNDS, PARTS, TRAINERS
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.testing import check_attack, check_bound, check_dataset, check_trainer

seeds = Seeds(5)
check_dataset("rings", seeds=seeds)
spec = PARTS.load("data-spec").of({"name": "rings"}, seed=1)
table = PARTS.load("data")(spec)
rows = PARTS.load("encode")(table, PARTS.load("split")(table, 100, seeds=seeds), spec).rows
check_trainer(TRAINERS.load("nearest-mean")(), rows, Path("saved"), seeds=seeds)
check_attack(ATTACKS.load("margin")(), seeds=seeds)
check_bound(BOUNDS.load("hoeffding")(), seeds=seeds)
print("contracts kept")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A copy of the package, built and installed into a folder of its own; nothing is downloaded."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(SOURCE, folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(folder / "source")], check=True, capture_output=True)
    return folder


def run(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed / "site"), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=installed, env=environment)


def test_plug_ins_are_listed_and_described(installed):
    for kind, name in (
        ("trainers", "nearest-mean"),
        ("attacks", "margin"),
        ("bounds", "hoeffding"),
        ("datasets", "rings"),
    ):
        done = run(installed, "-m", "leakgauge", "list", kind)
        assert name in done.stdout.split(), done.stderr
    assert "kept: 'float' = 0.3" in run(installed, "-m", "leakgauge", "show", "nearest-mean").stdout


def test_plug_ins_work_together_in_an_audit(installed):
    (installed / "rings.toml").write_text(AUDIT)
    done = run(installed, "-m", "leakgauge", "run", "rings.toml", "--out", "out", "--device", "cpu", "--quiet")
    assert done.returncode == 0, done.stderr
    (finding,) = json.loads((installed / "out" / "audit.json").read_text())["findings"]
    assert finding["rule"] == "membership.margin"
    assert finding["metrics"]["auc"]["value"] > 0.55


def test_plug_ins_keep_the_contracts(installed):
    done = run(installed, "-c", CONTRACTS)
    assert done.stdout.strip() == "contracts kept", done.stderr
