"""The suite of LiRA's published numbers: a file that runs by one command, tried in small."""

from __future__ import annotations

import json

import pytest
import torch

from leakgauge.audit.cli import suite_path
from leakgauge.audit.conduct import conduct
from leakgauge.audit.errors import ConfigError
from leakgauge.trainers.wide_resnet import wide_resnet

SMALL = [
    "data.hub=",
    "data.revision=",
    "data.target=",
    "data.name=photos",
    "design.audit_records=60",
    "trainer.0.model=leakgauge.trainers.wide_resnet:wide_resnet_16_1",
    "trainer.0.epochs=1",
    "trainer.0.batch_size=16",
    *(f"attack.{k}.guesses=20" for k in range(4)),
    "attack.lira-256.shadows=2",
    "attack.lira-256.augmentations=2",
    "attack.lira-16.shadows=2",
    "attack.lira-16-per-example.shadows=4",
]


def test_the_suite_runs_in_small(tmp_path):
    from pathlib import Path

    path = suite_path(Path("paper-lira"))
    code = conduct(path, tmp_path / "out", SMALL, device="cpu", quiet=True, command="test")
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert code == 0
    assert {f["attack"] for f in audit["findings"]} == {"lira-256", "lira-16", "lira-16-per-example", "loss"}
    assert audit["status"] == "ok"


def test_the_network_has_the_published_size_and_refuses_what_does_not_fit():
    # 1.47 million parameters: WRN-28-2 of Zagoruyko and Komodakis, table 1 counts 1.5 million with its own classifier.
    parameters = sum(p.numel() for p in wide_resnet((3, 32, 32), 10).parameters())
    assert parameters == pytest.approx(1.47e6, rel=0.01)
    assert wide_resnet((3, 32, 32), 10, depth=16, width=1).eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    with pytest.raises(ConfigError, match="6 n"):
        wide_resnet((3, 32, 32), 10, depth=20)
    with pytest.raises(ConfigError, match="8 pixels"):
        wide_resnet((64,), 10)
