"""Attacks on masks in an audit file: bits are asked of the models, stored as one answer a model, and judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from leakgauge.audit.cli import app
from leakgauge.audit.errors import IncompatibleError

AUDIT = """
[audit]
name = "masks"
seed = 7
access = ["weights"]

[data]
name = "digits"
limit = 120

[design]
audit_records = 60

[[trainer]]
name = "supermask"
hidden = [16]
epochs = 3
batch_size = 16

[[attack]]
name = "mask-likelihood"
shadows = 8
alpha_share = 0.4

[[attack]]
name = "mask-gradient"
shadows = 8
alpha_share = 0.3

[[attack]]
name = "loss"
alpha_share = 0.3
"""


def test_masks_are_audited_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.toml"
    path.write_text(AUDIT, encoding="utf-8")
    result = CliRunner().invoke(app, ["run", str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))
    rules = {f["rule"]: f for f in document["findings"]}
    assert set(rules) == {"membership.mask-likelihood", "membership.mask-gradient", "membership.loss"}
    assert {f["verdict"] for f in rules.values()} == {"no-claim"}
    assert all(0 <= f["metrics"]["auc"]["value"] <= 1 for f in rules.values())
    weights = 16 * (64 + 10)
    stored = [np.load(file, mmap_mode="r").shape for file in (tmp_path / "out").rglob("answers.npy")]
    # Target and eight shadows.
    assert stored.count((weights,)) == 9
    assert stored.count((120, 2)) == 9


def test_the_access_of_the_bits_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "audit.toml"
    path.write_text(AUDIT.replace('access = ["weights"]', 'access = ["logits"]'), encoding="utf-8")
    result = CliRunner().invoke(app, ["plan", str(path)])
    assert isinstance(result.exception, IncompatibleError)
    assert "attack 'mask-likelihood' needs access to weights" in str(result.exception)
