from __future__ import annotations

import json
import threading
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest

from leakgauge.audit import plays as module
from leakgauge.audit.bank import Bank
from leakgauge.audit.config import load_config
from leakgauge.audit.execution import executor_named
from leakgauge.audit.played import play
from leakgauge.audit.plays import Play, help_play, play_ahead, plays
from leakgauge.audit.progress import Reporter
from leakgauge.audit.setting import settle
from leakgauge.audit.store import Store

AUDIT = """
[audit]
name = "ahead"
seed = 5
access = ["logits"]
[data]
name = "prose-private"
text_encoding = "bytes"
text_length = 48
limit = 80
[design]
audit_records = 40
[[trainer]]
name = "language"
layers = 1
width = 8
heads = 1
length = 48
epochs = 0.2
[[trainer]]
name = "dp-language"
layers = 1
width = 8
heads = 1
length = 48
noise_multiplier = 2.0
epochs = 0.2
batch_size = 8
nominal_rows = 40
[[attack]]
name = "secret-exposure"
digits = 1
slots = 3
repetitions = [1]
samples = 100
"""


@pytest.fixture
def setting(tmp_path):
    (tmp_path / "audit.toml").write_text(AUDIT)
    return settle(load_config(tmp_path / "audit.toml", []))


def bank_of(setting: Any, folder: Any, workers: int = 2) -> Bank:
    material, executor = setting.material, executor_named("local", lambda _: None)
    executor.workers = workers  # type: ignore[attr-defined]
    return Bank(Store(folder), material.universe, material.queried(), "cpu", Reporter(quiet=True), executor)


ALL = [
    Play("dp-language", "secret-exposure", False),
    Play("dp-language", "secret-exposure", True),
    Play("language", "secret-exposure", False),
]


def test_the_longest_games_are_played_first_and_twins_are_among_them(setting):
    assert plays(setting) == ALL


def outcomes(setting: Any, bank: Bank) -> list[Any]:
    return [play(setting, bank, module._trainer(setting, p), p.attack, None, p.label) for p in ALL]


def test_who_played_a_game_does_not_matter(setting, tmp_path):
    # The other process's work, done here: one line of orders, then all that nobody has begun.
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "0").touch()
    order = {
        "config": setting.config.model_dump(mode="json", exclude_unset=True),
        "store": str(tmp_path / "helped"),
        "claims": str(tmp_path / "claims"),
        "plays": [asdict(p) for p in ALL],
    }
    # The first process lives on: its pipe never ends.
    line = json.dumps(order) + "\n"
    held = SimpleNamespace(readline=lambda: line, read=threading.Event().wait)
    help_play(held)  # type: ignore[arg-type]
    helped, alone = bank_of(setting, tmp_path / "helped"), bank_of(setting, tmp_path / "alone")
    assert len(helped.store.entries("games")) == 2
    assert outcomes(setting, helped) == outcomes(setting, alone)


def test_what_the_second_process_leaves_is_played_here(setting, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HELPER", "raise SystemExit(3)  # {path!r}")
    bank = bank_of(setting, tmp_path / "out")
    play_ahead(setting, bank)
    assert len(bank.store.entries("games")) == 3
    assert list((tmp_path / "out" / "tmp").glob("plays-*")) == []


def test_one_core_or_one_game_needs_no_second_process(setting, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_start", lambda *_: pytest.fail("a process was started"))
    single = bank_of(setting, tmp_path / "out", workers=1)
    play_ahead(setting, single)
    assert single.store.entries("games") == []
    outcomes(setting, single)
    play_ahead(setting, bank_of(setting, tmp_path / "out"))


@pytest.mark.slow  # starting a process takes some seconds
def test_the_second_process_plays_what_this_one_does_not(setting, tmp_path, monkeypatch):
    bank = bank_of(setting, tmp_path / "out")
    monkeypatch.setattr(module, "_work_off", lambda *_: None)
    play_ahead(setting, bank)
    assert len(bank.store.entries("games")) == 3
