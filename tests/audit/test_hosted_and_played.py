"""Canaries that trainers insert, and games, through the whole runner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leakgauge.audit.conduct import conduct
from leakgauge.audit.config import load_config
from leakgauge.audit.errors import IncompatibleError
from leakgauge.audit.plan import plan_json
from leakgauge.audit.setting import settle

AUDIT = """
[audit]
name = "inside"
seed = 5
access = ["transcript"]
delta = 1e-6
[data]
name = "digits"
[design]
audit_records = 400
[[trainer]]
name = "dp-sgd"
id = "private"
model = "logistic"
epsilon = 2.0
epochs = 10
batch_size = 32
nominal_rows = 200
[[trainer]]
name = "sgd"
epochs = 2
[[attack]]
name = "gradient-canary"
trainers = ["private"]
canaries = 1000
guesses = 300
[[attack]]
name = "matched-filter"
labels = "distinct"
trials = 200
"""


def run(folder: Path, out: str = "out") -> dict:
    path = folder / "audit.toml"
    path.write_text(AUDIT)
    conduct(path, folder / out, [], device="cpu", quiet=True, command="test")
    return json.loads((folder / out / "audit.json").read_text())


def comparable(audit: dict) -> dict:
    kept = {k: v for k, v in audit.items() if k not in {"timings", "artifacts"}}
    provenance = {k: v for k, v in kept["provenance"].items() if k not in {"started", "finished", "attempts"}}
    return kept | {"provenance": provenance}


@pytest.fixture(scope="module")
def audit(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("inside")
    return folder, run(folder)


def test_gradient_canaries_and_their_controls_are_in_the_document(audit):
    _, document = audit
    (finding,) = [f for f in document["findings"] if f["rule"] == "canary.gradient-canary"]
    assert finding["trainer"] == "private"
    assert 0 < finding["bound"]["epsilon"] <= finding["claim"]["epsilon"]
    assert finding["threat"]["sees"]
    twin = next(r for r in document["controls"]["positive"]["figures"] if r["attack"] == "gradient-canary")
    assert twin["epsilon"] > finding["claim"]["epsilon"]
    negative = next(r for r in document["controls"]["negative"]["figures"] if r["attack"] == "gradient-canary")
    assert negative["epsilon"] == 0
    assert finding["verdict"] == "consistent"


def test_a_game_is_measured_bounded_and_played_against_the_twin(audit):
    _, document = audit
    found = {f["trainer"]: f for f in document["findings"] if f["rule"] == "inversion.matched-filter"}
    assert found["sgd"]["verdict"] == "no-claim"
    assert found["sgd"]["metrics"]["measures"]["success"]["value"] > 0.95
    private = found["private"]
    assert private["bound"]["method"] == "rank"
    assert private["bound"]["counts"]["runs"] == 200
    assert private["judged"]["epsilon"] <= private["claim"]["epsilon"]
    assert private["metrics"]["measures"]["success"]["baseline"]["value"] == pytest.approx(0.1)
    # The same answers against candidates drawn afresh certify nothing.
    rows = [r for r in document["controls"]["negative"]["figures"] if r["attack"] == "matched-filter"]
    assert {r["trainer"]: r["epsilon"] for r in rows} == {"private": 0.0, "sgd": 0.0}


def test_a_game_that_finds_what_is_not_there_is_an_error(tmp_path, monkeypatch):
    from leakgauge.attacks.inversion import matched_filter

    # Whoever drew the fresh truths and the answers from one stream would be right both times.
    honest = matched_filter.MatchedFilter._outcome

    def same_truth_twice(self, hits, redrawn, facts, confidence):
        return honest(self, hits, hits, facts, confidence)

    monkeypatch.setattr(matched_filter.MatchedFilter, "_outcome", same_truth_twice)
    document = run(tmp_path)
    (finding,) = [f for f in document["findings"] if (f["attack"], f["trainer"]) == ("matched-filter", "sgd")]
    assert (finding["verdict"], finding["reason"]) == ("error", "negative-control")
    assert document["controls"]["negative"]["passed"] is False


def test_running_again_trains_and_plays_nothing(audit, monkeypatch):
    folder, first = audit
    monkeypatch.setattr("leakgauge.trainers.whitebox.hosting.host_gradient_canaries", None)
    monkeypatch.setattr("leakgauge.attacks.inversion.matched_filter.named_candidates", None)
    assert comparable(run(folder)) == comparable(first)


def test_a_fresh_run_gives_the_same_document(audit, tmp_path):
    assert comparable(run(tmp_path)) == comparable(audit[1])


def test_the_plan_prices_both_and_shows_their_ceilings(tmp_path):
    path = tmp_path / "audit.toml"
    path.write_text(AUDIT)
    power = {(p["trainer"], p["attack"]): p for p in plan_json(settle(load_config(path)))["power"]}
    assert power["private", "gradient-canary"]["canaries"] == 1000
    assert power["private", "gradient-canary"]["can_refute"]
    assert power["private", "matched-filter"]["can_refute"]
    assert power["sgd", "matched-filter"]["claim"] is None


def test_a_trainer_that_inserts_no_such_canaries_is_refused_before_training(tmp_path):
    path = tmp_path / "audit.toml"
    path.write_text(AUDIT.replace('trainers = ["private"]\n', ""))
    with pytest.raises(IncompatibleError, match="trainers ="):
        settle(load_config(path))


def test_an_attack_on_an_unknown_trainer_is_refused(tmp_path):
    path = tmp_path / "audit.toml"
    path.write_text(AUDIT.replace('trainers = ["private"]', 'trainers = ["privat"]'))
    with pytest.raises(IncompatibleError, match="did you mean 'private'"):
        settle(load_config(path))


PARTS = """
[audit]
name = "parts"
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
epochs = 1
batch_size = 15
nominal_rows = 60
[[trainer]]
name = "language"
layers = 1
width = 8
heads = 1
length = 48
epochs = 0.2
[[attack]]
name = "secret-exposure"
digits = 1
slots = 4
repetitions = [1, 2]
samples = 100
alpha_share = 0.5
"""


def test_a_game_of_several_designs_gives_a_finding_for_each(tmp_path):
    path = tmp_path / "audit.toml"
    path.write_text(PARTS)
    conduct(path, tmp_path / "out", [], device="cpu", quiet=True, command="test")
    document = json.loads((tmp_path / "out" / "audit.json").read_text())
    found = {f["attack"]: f for f in document["findings"] if f["trainer"] == "dp-language"}
    assert list(found) == ["secret-exposure/1x", "secret-exposure/2x"]
    assert {f["rule"] for f in found.values()} == {"exposure.secret-exposure"}
    once, twice = found.values()
    assert once["claim"]["epsilon"] < twice["claim"]["epsilon"]
    assert once["claim"]["epsilon"] == pytest.approx(document["claims"][0]["epsilon"])
    assert all(f["bound"]["method"] == "k-ary-markov" for f in found.values())
    # Half of alpha is the attack's, and its two parts share it: 5 % / 4 at 95 %.
    assert {round(f["bound"]["alpha"], 6) for f in found.values()} == {0.0125}
    ledger = [(row["trainer"], row["attack"]) for row in document["design"]["ledger"]]
    assert ledger == [*(("dp-language", name) for name in found), ("language", "secret-exposure/1x")]
    assert [row["attack"] for row in document["controls"]["positive"]["figures"]] == list(found)
    assert "perplexity_unigram" in once["metrics"]["measures"]
    assert all(f["verdict"] == "underpowered" for f in found.values())
    # Without a claim on groups, what concerns two records together is measured and not certified.
    plain = {f["attack"]: f for f in document["findings"] if f["trainer"] == "language"}
    assert plain["secret-exposure/1x"]["bound"]["method"] == "k-ary-markov"
    assert plain["secret-exposure/2x"]["bound"] is None
    assert {f["verdict"] for f in plain.values()} == {"no-claim"}
    assert plain["secret-exposure/2x"]["metrics"]["measures"]["extracted_2x"]["n"] is not None
    assert document["utility"] == []
