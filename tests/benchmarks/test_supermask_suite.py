from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leakgauge.audit.config import load_config
from leakgauge.audit.plan import powers
from leakgauge.audit.progress import Reporter
from leakgauge.audit.run import run_audit
from leakgauge.audit.setting import settle

SUITE = Path(__import__("leakgauge.benchmarks", fromlist=["x"]).__file__).with_name("suites") / "supermask.toml"
ISSUE = {"clients": 10, "rounds": 15, "learning_rate": 0.1, "rule": "bernoulli", "optimizer": "adam"}


def test_the_suite_trains_as_the_issue_says_and_could_refute_every_claim() -> None:
    setting = settle(load_config(SUITE))
    mask, pretrained = setting.trainers["fedpm"], setting.trainers["fedpm-pretrained"]
    for trainer in (mask, pretrained):
        assert {key: getattr(trainer, key) for key in ISSUE} == ISSUE
    assert (mask.hidden, mask.frozen) == ((256, 256), "signed-constant")
    assert pretrained.frozen == "model"
    # Every trainer is attacked by RMIA, so that the report compares them on it.
    assert all("rmia" in setting.attacks_on(trainer) for trainer in setting.trainers)
    claimed = [power for power in powers(setting) if power.claim is not None]
    assert {power.trainer for power in claimed} == {"dp-mask", "dp-fedavg", "dp-flips"}
    assert all(power.can_refute for power in claimed)


@pytest.mark.slow
def test_the_suite_shows_what_it_must(tmp_path: Path) -> None:
    """About two minutes on a quiet core."""
    reporter = Reporter(quiet=True)
    audit = run_audit(load_config(SUITE), out=tmp_path, device="cpu", reporter=reporter, command="test")
    accuracy: dict[str, float] = {u["trainer"]: u["test_accuracy"]["value"] for u in audit["utility"]}
    assert accuracy["fedpm"] >= 0.93
    assert accuracy["fedpm-pretrained"] >= 0.92
    assert abs(accuracy["fedavg"] - accuracy["fedpm"]) <= 0.02
    sent: dict[str, Any] = {c["trainer"]: c for c in audit["communication"]}
    assert sent["fedpm"]["bits_per_parameter"] == 1
    # Biases travel with FedAvg and are not masked.
    assert 32 < sent["fedavg"]["upload_bytes"] / sent["fedpm"]["upload_bytes"] < 32.5
    found = {(f["trainer"], f["attack"]): f for f in audit["findings"]}
    for pair in (("dp-mask", "gradient-canary"), ("dp-fedavg", "client-canary"), ("dp-flips", "client-canary")):
        assert found[pair]["verdict"] == "consistent"
    assert audit["status"] == "ok"
