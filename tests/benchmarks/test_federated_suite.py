from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from leakgauge.audit.cli import app

SUITE = Path(__file__).resolve().parents[2] / "benchmarks" / "suites" / "federated.toml"


def run(out: Path) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["run", str(SUITE), "--out", str(out)])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    return document


def test_the_plan_shows_what_each_observer_s_audit_could_refute() -> None:
    result = CliRunner().invoke(app, ["plan", str(SUITE), "--json"])
    assert result.exit_code == 0, result.output
    power = {(p["trainer"], p["attack"]): p for p in json.loads(result.stdout)["power"]}
    assert len(power) == 16
    uncovered = {key for key, p in power.items() if p["claim"] is None and key[0] != "fedavg"}
    assert uncovered == {("central", "server-sees-updates"), ("central", "server-sees-sum")}
    weak = {key for key, p in power.items() if p["claim"] is not None and p["ceiling"] <= p["claim"]}
    assert weak == {("secure-sum", "server-sees-updates")}


@pytest.mark.slow
def test_the_suite_runs_offline_and_again_with_the_same_bytes(tmp_path: Path) -> None:
    one, two = run(tmp_path / "one"), run(tmp_path / "two")
    for key in ("findings", "claims", "utility", "controls", "verdict"):
        assert one[key] == two[key]
    for file in (tmp_path / "one" / "scores").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / "scores" / file.name).read_bytes()
    verdicts = {(f["trainer"], f["attack"]): f["verdict"] for f in one["findings"]}
    assert len(verdicts) == 16
    assert "violated" not in verdicts.values()
    assert "error" not in verdicts.values()
    assert verdicts["central", "client-sees-models"] == "consistent"
    assert verdicts["local", "server-sees-updates"] == "consistent"
    assert verdicts["secure-sum", "server-sees-sum"] == "consistent"
    report = (tmp_path / "one" / "report.md").read_text(encoding="utf-8")
    assert "By attacker" in report
    assert "homomorphic encryption" in report
