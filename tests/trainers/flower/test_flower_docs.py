"""The examples of docs/flower.md run as they stand, one after another."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

if importlib.util.find_spec("flwr") is None:
    pytest.skip("flwr is not installed: pip install 'leakgauge[flower]'", allow_module_level=True)

from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Verdict

DOCS = Path(__file__).resolve().parents[3] / "docs"


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_examples_of_the_flower_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    with Seeds(1).at("docs").numpy_scope():
        for block in blocks("flower.md"):
            exec(compile(block.replace("from __future__ import annotations", ""), "flower.md", "exec"), names)
    assert names["audit"].judgement.verdict is Verdict.VIOLATED
    assert names["result"].metrics["lost_updates"] == 0
    assert (tmp_path / "transcript" / "models.npy").exists()


def test_the_example_of_the_secure_aggregation_page():
    names = {}
    for block in blocks("secure-aggregation.md"):
        exec(compile(block, "secure-aggregation.md", "exec"), names)
    assert names["total"] == pytest.approx([1.5, -0.75, 0.0], abs=1e-3)
