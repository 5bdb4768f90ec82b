"""The audit file: what is accepted, and that every mistake is one line naming key, value and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from leakgauge.audit.config import load_config
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.plugs import construct
from leakgauge.audit.types import Verdict

GOOD = """
[audit]
name = "t"
[data]
name = "digits"
[trainer]
name = "dp-sgd"
epsilon = 3.0
delta = 1e-5
[[attack]]
name = "lira"
shadows = 8
guesses = 10
alpha_share = 0.5
[[attack]]
name = "rmia"
"""


def written(folder: Path, text: str, name: str = "audit.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_good_file_keeps_plug_in_parameters_apart(tmp_path):
    config = load_config(written(tmp_path, GOOD))
    assert config.trainer[0].parameters == {"epsilon": 3.0, "delta": 1e-5}
    assert config.attack[0].parameters == {"shadows": 8}
    assert config.attack[0].guesses == 10
    assert config.policy.fail_on == [Verdict.VIOLATED, Verdict.EXCEEDS_POLICY]


def test_several_trainers_and_overrides(tmp_path):
    text = GOOD.replace("[trainer]", "[[trainer]]") + '\n[[trainer]]\nname = "sgd"\n'
    overrides = ["attack.lira.shadows=16", "trainer.1.epochs=2", "audit.name=other", "policy.fail_on=['underpowered']"]
    config = load_config(written(tmp_path, text), overrides)
    assert config.attack[0].parameters == {"shadows": 16}
    assert config.trainer[1].parameters == {"epochs": 2}
    assert config.audit.name == "other"
    assert config.policy.fail_on == [Verdict.UNDERPOWERED]


def test_yaml_numbers_that_yaml_reads_as_text_are_still_numbers(tmp_path):
    text = "audit: {name: t, delta: 1e-6}\ndata: {name: digits}\ntrainer: {name: sgd}\nattack: [{name: loss}]\n"
    assert load_config(written(tmp_path, text, "a.yaml")).audit.delta == 1e-6


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "t"', 'name = "t"\nconfidense = 0.9', ["audit.confidense", "confidence"]),
        ('name = "t"', 'name = "t"\nconfidence = 1.0', ["audit.confidence", "1.0"]),
        ('name = "t"', 'name = "t"\nconfidence = 0.9999', ["0.9999", "violation_confidence"]),
        ('name = "t"', 'name = "../t"', ["audit.name", "../t"]),
        ("[audit]", "[adit]", ["adit", "audit"]),
        ("alpha_share = 0.5", "alpha_share = 1.5", ["alpha_share", "1.5"]),
        ('name = "rmia"', 'name = "lira"', ["two attacks", "lira", "id"]),
        ('name = "rmia"', 'name = "rmia"\nalpha_share = 0.6', ["alpha_share", "1.1"]),
        ("[trainer]", '[target]\nestimator = "a:b"\n[trainer]', ["either [trainer]", "[target]"]),
        ("[audit]", "[audit", ["not valid TOML"]),
    ],
)
def test_every_mistake_is_one_line_that_names_it(tmp_path, old, new, words):
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_override_of_a_missing_item_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no item 'nope'"):
        load_config(written(tmp_path, GOOD), ["attack.nope.shadows=3"])


def test_digest_ignores_layout_but_not_values(tmp_path):
    base = load_config(written(tmp_path, GOOD)).digest()
    assert load_config(written(tmp_path, "# a comment\n" + GOOD)).digest() == base
    assert load_config(written(tmp_path, GOOD), ["audit.seed=5"]).digest() != base


class Plug:
    def __init__(self, *, rate: float, hidden: tuple[int, ...] = (8,)) -> None:
        if rate > 1:
            raise ValueError("rate above 1")
        self.rate, self.hidden = rate, hidden


def test_constructor_signature_is_the_schema():
    plug = construct(Plug, {"rate": "1e-1", "hidden": [4, 5]}, where="trainer.0")
    assert plug.rate == 0.1
    assert plug.hidden == (4, 5)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"rat": 1.0}, ["trainer.0.rat", "did you mean 'rate'"]),
        ({"rate": "fast"}, ["trainer.0.rate", "'fast'"]),
        ({}, ["missing key 'trainer.0.rate'"]),
        ({"rate": 2.0}, ["trainer.0", "rate above 1"]),
    ],
)
def test_plug_mistakes_name_the_key(parameters, words):
    with pytest.raises(ConfigError) as caught:
        construct(Plug, parameters, where="trainer.0")
    for word in words:
        assert word in str(caught.value)


def test_paths_take_environment_variables_and_the_digest_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_FOLDER", "/one")
    text = GOOD.replace('name = "digits"', 'path = "$SOME_FOLDER/x.csv"')
    config = load_config(written(tmp_path, text))
    assert config.data.parameters["path"] == "/one/x.csv"
    digest = config.digest()
    monkeypatch.setenv("SOME_FOLDER", "/two")
    assert load_config(written(tmp_path, text)).digest() == digest
    monkeypatch.delenv("SOME_FOLDER")
    with pytest.raises(ConfigError, match="SOME_FOLDER is not set"):
        _ = config.data.parameters
