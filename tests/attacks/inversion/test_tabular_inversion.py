"""Tables from gradients: categories, numbers, pooling, and what an attacker without the gradient would say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from leakgauge.attacks.inversion.table_layout import table_layout
from leakgauge.attacks.inversion.tabular import TabularInversion, pool_searches
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.games import Game, Outcome, Stage
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access, Rows
from leakgauge.trainers.dpsgd import DpSgd
from leakgauge.trainers.sgd import Sgd

COLUMNS = ("age", "age=missing", "size", "colour=red", "colour=green", "colour=blue", "shape=round", "shape=flat")


@pytest.fixture(scope="module")
def table() -> Rows:
    generator = np.random.default_rng(0)
    numbers = generator.normal(size=(120, 2))
    flag = (generator.random((120, 1)) < 0.1).astype(float)
    colour, shape = np.eye(3)[generator.integers(3, size=120)], np.eye(2)[generator.integers(2, size=120)]
    features = np.hstack([numbers[:, :1], flag, numbers[:, 1:], colour, shape]).astype(np.float32)
    labels = (numbers.sum(axis=1) > 0).astype(np.int64)
    return Rows(features, labels, tuple(map(str, range(120))), 2, "table", columns=COLUMNS)


def play(game, trainer, rows: Rows, folder: Path) -> Outcome:
    half = len(rows) // 2
    private, public = rows.take(np.arange(half)), rows.take(np.arange(half, len(rows)))
    stage = Stage(
        trainer, public, private, np.ones(half, bool), lambda: None, None, Access.GRADIENTS, "cpu", 0.95, folder
    )
    return game.play(stage, seeds=Seeds(5))


def test_one_hot_groups_are_categories_and_flags_are_not(table):
    layout = table_layout(table)
    assert [c.name for c in layout.categories] == ["colour", "shape"]
    assert layout.names == ("age", "age=missing", "size")
    assert layout.shown(table.features[0]).keys() == {"colour", "shape", "age", "age=missing", "size"}
    raw = torch.randn((2, 4, 8), generator=torch.Generator().manual_seed(1))
    relaxed = layout.relaxed(raw, torch.full((8,), -0.5), torch.full((8,), 0.5))
    assert torch.allclose(relaxed[..., 3:6].sum(-1), torch.ones((2, 4)))
    assert float(relaxed[..., layout.numbers].abs().max()) <= 0.5


def test_records_come_back_and_not_under_protection(table, tmp_path):
    game = TabularInversion(victims=6, batch_size=2, iterations=150, restarts=3)
    open_, guarded = (
        play(game, trainer, table, tmp_path / str(k)).measures
        for k, trainer in enumerate(
            (Sgd(model="mlp", hidden=(32,)), DpSgd(model="mlp", hidden=(32,), noise_multiplier=2.0, nominal_rows=600))
        )
    )
    assert open_["categories_right"].value > 0.9
    assert open_["categories_right"].value > open_["categories_right"].baseline.value + 0.2
    assert open_["number_error"].value < open_["number_error"].baseline.value / 2
    assert set(open_) >= {"colour_right", "shape_right", "whole_records", "numbers_near"}
    assert guarded["categories_right"].value < 0.75


def test_searches_are_aligned_before_they_are_pooled(table):
    layout = table_layout(table)
    truth = table.features[:3].astype(np.float64)
    searches = np.stack([truth, truth[[2, 0, 1]], truth[::-1], truth + 9])
    pooled = pool_searches(searches, np.array([0.0, 0.1, 5.0, 9.0]), layout)
    assert pooled == pytest.approx(truth)


def test_bad_input_is_named(table, tmp_path):
    trainer = Sgd(model="mlp", hidden=(16,))
    with pytest.raises(ConfigError, match="restarts"):
        TabularInversion(restarts=0)
    with pytest.raises(ConfigError, match="victim batches"):
        play(TabularInversion(victims=50), trainer, table, tmp_path)
    images = Rows(np.zeros((9, 1, 4, 4), np.float32), np.zeros(9, np.int64), tuple("abcdefghi"), 2, "images")
    with pytest.raises(IncompatibleError, match="needs tables"):
        play(TabularInversion(), trainer, images, tmp_path)
    with pytest.raises(IncompatibleError, match="no single step"):
        play(TabularInversion(), object(), table, tmp_path)
    assert isinstance(TabularInversion(), Game)
