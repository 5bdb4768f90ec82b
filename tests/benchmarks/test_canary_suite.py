from __future__ import annotations

from pathlib import Path

import pytest

import leakgauge
from leakgauge.audit.config import load_config
from leakgauge.audit.plan import powers
from leakgauge.audit.plays import plays
from leakgauge.audit.setting import settle

SUITE = Path(leakgauge.__file__).parent / "benchmarks" / "suites" / "canary.toml"


@pytest.fixture(scope="module")
def setting():
    return settle(load_config(SUITE, []))


def test_the_suite_compares_three_trainers_on_the_same_secrets(setting):
    assert list(setting.trainers) == ["plain", "scrubbed", "private"]
    game = setting.attacks["secrets"]
    assert (game.sizes, game.repetitions, game.fill_probability) == ((4, 6), (1, 4, 16), 0.5)
    # At least 64 slots in each space, and 64 secrets expected to be inserted.
    assert game.slots * len(game.repetitions) >= 64
    assert game.slots * len(game.repetitions) * len(game.sizes) * game.fill_probability >= 64
    expected = len(setting.material.universe) / 2 + 0.5 * game.slots * len(game.sizes) * sum(game.repetitions)
    assert [t.nominal_rows for t in setting.trainers.values()] == pytest.approx([expected] * 3, abs=5)


def test_four_games_are_played_and_the_plan_says_what_each_part_could_show(setting):
    assert [(p.trainer, p.twin) for p in plays(setting)] == [
        ("private", False),
        ("private", True),
        ("plain", False),
        ("scrubbed", False),
    ]
    found = {(p.trainer, p.attack): p for p in powers(setting)}
    private = {attack: p for (trainer, attack), p in found.items() if trainer == "private"}
    assert len(private) == 6
    assert private["secrets/6-digits/1x"].claim == pytest.approx(8, rel=0.02)
    # Only a single insertion of six digits could refute the claim: those for groups are out of reach.
    assert [attack for attack, p in private.items() if p.can_refute] == ["secrets/6-digits/1x"]
    assert {attack for (trainer, attack) in found if trainer == "plain"} == {
        "secrets/4-digits/1x",
        "secrets/6-digits/1x",
    }
