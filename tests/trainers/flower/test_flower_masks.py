"""Federated masks through Flower: the same bits as our own loop gives."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("flwr") is None:
    pytest.skip("flwr is not installed: pip install 'leakgauge[flower]'", allow_module_level=True)

from leakgauge.audit.errors import ConfigError
from leakgauge.audit.registry import TRAINERS
from leakgauge.trainers.data import DataSpec, encode, load_table
from leakgauge.trainers.flower.client import build_client_app
from leakgauge.trainers.flower.grid import InProcessGrid
from leakgauge.trainers.flower.job import FlowerJob
from leakgauge.trainers.flower.server import run_federation
from leakgauge.trainers.flower.simulate import run_in_process

DATA = {"name": "digits", "limit": 240}
COMMON: dict[str, Any] = {
    "hidden": [16],
    "clients": 6,
    "cohort": 4,
    "rounds": 3,
    "local_epochs": 2,
    "view": "updates",
}
FLIPS = {"upload": "flips", "flip_budget": 100, "rule": "sign", "learning_rate": 0.02}
JOBS = {
    "bits": ("federated-supermask", {"view": "updates"}),
    "bits-beta-over-rounds": ("federated-supermask", {"reset": 3}),
    "scores": ("federated-supermask", {"upload": "scores"}),
    "flips": ("federated-supermask", FLIPS),
    "clamped": ("dp-federated-supermask", {"clamp": 0.2, "masked_weights": 16 * 74}),
    "central": ("dp-federated-supermask", {**FLIPS, "noise_multiplier": 0.5, "view": "global-models"}),
    "local": ("dp-federated-supermask", {"upload": "scores", "noise": "local", "noise_multiplier": 0.5}),
    "distributed": (
        "dp-federated-supermask",
        {**FLIPS, "noise": "distributed", "noise_multiplier": 0.5, "least_cohort": 2, "view": "global-models"},
    ),
}


def job(name: str, **changes: Any) -> FlowerJob:
    trainer, settings = JOBS[name]
    return FlowerJob(trainer, {**COMMON, **settings}, DATA, **{"seed": 3, "nodes": 2, **changes})


def own_loop(one: FlowerJob) -> Any:
    spec = DataSpec(**{"seed": one.seed, **one.data})
    table = load_table(spec)
    rows = encode(table, np.ones(len(table), np.bool_), spec).rows
    trainer = TRAINERS.load(one.trainer)(**one.settings)
    return trainer.fit(rows, np.ones(len(rows), bool), seeds=one.seeds, device="cpu")


def in_order(transcript: Any) -> dict[str, Any]:
    """The arrays; updates within a round come in no particular order."""
    arrays = {k: np.asarray(v) for k, v in transcript.items() if k not in ("view", "clients")}
    if "update_rounds" in arrays:
        order = np.lexsort((arrays["update_clients"], arrays["update_rounds"]))
        arrays = {k: v[order] if k.startswith("update") else v for k, v in arrays.items()}
    return arrays


@pytest.mark.parametrize("name", sorted(JOBS))
def test_masks_through_flower_are_those_of_our_own_loop(name: str) -> None:
    own, flower = own_loop(job(name)), run_in_process(job(name))
    assert np.array_equal(own.model.bits().numpy(), flower.weights > 0)
    ours, theirs = in_order(own.transcript), in_order(flower.transcript)
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert np.abs(ours[key] - theirs[key]).max() < 1e-6, key
    if name in ("bits", "bits-beta-over-rounds", "clamped"):
        # Bits that crossed the grid are bits, and the same ones.
        assert np.array_equal(ours["updates"], theirs["updates"])
        assert set(np.unique(theirs["updates"])) == {0.0, 1.0}


def test_a_lost_node_does_not_bias_the_share_of_ones() -> None:
    """With the uploads of one node gone, the scores are the log-odds of the shares among those that arrived."""
    whole = job("bits", nodes=2)
    whole = FlowerJob(whole.trainer, {**COMMON, "cohort": 6, "rounds": 1}, DATA, seed=3, nodes=2)
    calls = {"n": 0}

    def alive(node: int) -> bool:
        calls["n"] += node == 2
        return node != 2 or calls["n"] <= 1

    grid = InProcessGrid(build_client_app(whole), {1: {"partition-id": 0}, 2: {"partition-id": 1}}, alive=alive)
    result = run_federation(grid, whole)
    assert result.metrics["lost_updates"] == 3
    sent = np.asarray(result.transcript["updates"])
    assert len(sent) == 3
    share = np.clip(sent.mean(axis=0), 1 / 12, 11 / 12)
    assert np.allclose(result.weights, np.log(share / (1 - share)))


def test_other_trainers_are_refused() -> None:
    with pytest.raises(ConfigError, match="'supermask' is not federated"):
        FlowerJob("supermask").plan()
