from __future__ import annotations

import json

import pytest

from leakgauge.audit.conduct import conduct
from leakgauge.audit.config import load_config
from leakgauge.audit.plan import plan_json
from leakgauge.audit.setting import settle

AUDIT = """
[audit]
name = "own"
seed = 5
access = ["logits"]
[data]
name = "prose-private"
text_encoding = "bytes"
text_length = 48
limit = 120
[design]
audit_records = 60
[[trainer]]
name = "dp-language"
layers = 1
width = 8
heads = 1
length = 48
noise_multiplier = 2.0
epochs = 0.5
batch_size = 15
nominal_rows = 60
[[trainer]]
name = "language"
layers = 1
width = 8
heads = 1
length = 48
epochs = 0.2
scrub = ["number"]
[[attack]]
name = "secret-exposure"
digits = [1, 2]
slots = 4
repetitions = [1, 2]
samples = 100
"""
PARTS = [f"secret-exposure/{d}-digits/{c}x" for d in (1, 2) for c in (1, 2)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "audit.toml").write_text(AUDIT)
    conduct(folder / "audit.toml", folder / "out", [], device="cpu", quiet=True, command="test")
    return folder, json.loads((folder / "out" / "audit.json").read_text())


def test_no_target_is_trained_where_no_attack_would_ask_it(run):
    folder, document = run
    assert not list((folder / "out").glob("**/models/*/train.json"))
    assert not [f for f in document["findings"] if f["verdict"] == "error"]
    assert document["utility"] == []
    # The claim is the planned one, which is known before training.
    assert [c["trainer"] for c in document["claims"]] == ["dp-language"]
    told = {f["attack"]: f["claim"]["epsilon"] for f in document["findings"] if f["trainer"] == "dp-language"}
    assert list(told) == PARTS
    assert told[PARTS[0]] == pytest.approx(document["claims"][0]["epsilon"])


def test_each_part_shows_its_own_measures_and_what_concerns_all(run):
    _, document = run
    for finding in document["findings"]:
        digits, count = finding["attack"].split("/")[1:]
        label = f"{digits[0]}_digits_{count}"
        names = set(finding["metrics"]["measures"])
        assert f"extracted_{label}" in names or f"median_exposure_{label}" in names
        assert {
            n for n in names if n.startswith(("median", "extracted", "surviving")) and not n.endswith(label)
        } == set()
        assert {"perplexity_model", "perplexity_unigram"} <= names
        assert ("surviving_" + label in names) == (finding["trainer"] == "language")
    notes = [f["threat"].get("note", "") for f in document["findings"] if f["trainer"] == "language"]
    assert all("before training: nothing was removed; of" in note for note in notes)


def test_fresh_secrets_are_the_negative_control_of_every_bound(run):
    _, document = run
    figures = document["controls"]["negative"]["figures"]
    assert {f["attack"] for f in figures} == set(PARTS)
    assert all(f["epsilon"] >= 0 for f in figures)


def test_the_plan_shows_the_ceiling_of_each_part(run):
    folder, document = run
    power = {
        p["attack"]: p
        for p in plan_json(settle(load_config(folder / "audit.toml", [])))["power"]
        if p["trainer"] == "dp-language"
    }
    assert list(power) == PARTS
    for finding in document["findings"]:
        if finding["trainer"] == "dp-language":
            planned = power[finding["attack"]]
            assert planned["claim"] == pytest.approx(finding["claim"]["epsilon"])
            assert planned["ceiling"] == pytest.approx(finding["judged"]["ceiling"])
            assert planned["alpha_share"] == pytest.approx(1 / 4)
