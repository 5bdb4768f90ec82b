"""The same job through our own loop, Flower in this process, Flower on Ray, and a deployment."""

from __future__ import annotations

import importlib.util
import json
import time

import numpy as np
import pytest

if importlib.util.find_spec("flwr") is None:
    pytest.skip("flwr is not installed: pip install 'leakgauge[flower]'", allow_module_level=True)

from leakgauge.audit.errors import ConfigError, PrerequisiteError
from leakgauge.audit.registry import TRAINERS
from leakgauge.trainers.data import DataSpec, encode, load_table
from leakgauge.trainers.federated.layout import read_buffers, read_parameters
from leakgauge.trainers.federated.views import load_transcript
from leakgauge.trainers.flower.client import build_client_app
from leakgauge.trainers.flower.deploy import loopback, wait_for, write_app
from leakgauge.trainers.flower.grid import InProcessGrid
from leakgauge.trainers.flower.job import FlowerJob
from leakgauge.trainers.flower.server import run_federation
from leakgauge.trainers.flower.simulate import run_in_process, run_on_ray

DATA = {"name": "digits", "limit": 300}
COMMON = {"clients": 6, "cohort": 4, "rounds": 3}
JOBS = {
    "plain": ("federated", {}),
    "central": ("dp-federated", {"noise_multiplier": 0.5}),
    "local": ("dp-federated", {"noise": "local", "noise_multiplier": 0.5, "view": "updates"}),
    "distributed": ("dp-federated", {"noise": "distributed", "noise_multiplier": 0.5, "least_cohort": 2}),
    "adaptive": ("dp-federated", {"noise_multiplier": 0.5, "adaptive_clip": True, "count_noise": 1.0}),
}


def job(name, **changes):
    trainer, settings = JOBS[name]
    return FlowerJob(trainer, {**COMMON, **settings}, DATA, **{"seed": 3, "nodes": 2, **changes})


def own_loop(job):
    """The trainer's own `fit`, as a user calls it."""
    spec = DataSpec(**{"seed": job.seed, **job.data})
    table = load_table(spec)
    rows = encode(table, np.ones(len(table), np.bool_), spec).rows
    trainer = TRAINERS.load(job.trainer)(**job.settings)
    return trainer.fit(rows, np.ones(len(rows), bool), seeds=job.seeds, device="cpu")


def by_round_and_client(transcript):
    """The arrays; updates within a round come in no particular order, so they are sorted."""
    arrays = {k: np.asarray(v) for k, v in transcript.items() if k not in ("view", "clients")}
    if "update_rounds" in arrays:
        order = np.lexsort((arrays["update_clients"], arrays["update_rounds"]))
        arrays = {k: v[order] if k.startswith("update") else v for k, v in arrays.items()}
    return arrays


@pytest.mark.parametrize("name", sorted(JOBS))
def test_in_process_flower_gives_the_weights_of_our_own_loop(name):
    own, flower = own_loop(job(name)), run_in_process(job(name))
    assert np.abs(read_parameters(own.model) - flower.weights).max() < 1e-6
    assert np.abs(flower.weights).max() > 0.01
    assert own.transcript["view"] == flower.transcript["view"]
    ours, theirs = by_round_and_client(own.transcript), by_round_and_client(flower.transcript)
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert np.allclose(ours[key], theirs[key], atol=1e-6), key


def test_buffers_of_batch_normalisation_travel_too(tmp_path, monkeypatch):
    (tmp_path / "flower_norm_model.py").write_text(
        "from math import prod\nfrom torch import nn\n\n"
        "def build(shape, classes):\n"
        "    layers = nn.Flatten(), nn.Linear(prod(shape), 8), nn.BatchNorm1d(8), nn.Linear(8, classes)\n"
        "    return nn.Sequential(*layers)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = {**COMMON, "model": "flower_norm_model:build", "view": "global-models"}
    whole = FlowerJob("federated", settings, DATA, seed=3, nodes=2)
    own, flower = own_loop(whole), run_in_process(whole)
    assert np.abs(read_parameters(own.model) - flower.weights).max() < 1e-6
    # Running means, variances and counters after every round, and they did move.
    assert np.allclose(own.transcript["buffers"], flower.transcript["buffers"], atol=1e-5)
    assert np.abs(np.diff(flower.transcript["buffers"], axis=0)).max() > 0.01
    assert len(read_buffers(own.model)) == 3


def test_the_number_of_nodes_changes_nothing():
    one, three = run_in_process(job("central", nodes=1)), run_in_process(job("central", nodes=3))
    assert np.abs(one.weights - three.weights).max() < 1e-6


def test_noise_of_clients_is_added_before_anything_leaves_them():
    """What crosses the grid under local noise is the noisy update, not the bare one."""
    seen = []
    inner = build_client_app(job("local"))

    def spying(message, context):
        reply = inner(message, context)
        if "arrays" in reply.content:
            seen.append(reply.content["arrays"]["deltas"].numpy())
        return reply

    run_federation(InProcessGrid(spying, {1: {"partition-id": 0}, 2: {"partition-id": 1}}), job("local"))
    sent = np.concatenate(seen)
    # Standard deviation 0.5 (clip 1) in each of some 2000 coordinates: 5 standard errors are 4 %.
    assert np.abs(sent.std(axis=1) - 0.5).max() < 0.04


def test_a_dead_node_costs_its_updates_and_nothing_else(tmp_path):
    calls = {"n": 0}

    def alive(node):
        calls["n"] += node == 2
        return node != 2 or calls["n"] <= 2

    whole = job("local", out=str(tmp_path / "out"))
    nodes = {1: {"partition-id": 0}, 2: {"partition-id": 1}}
    result = run_federation(InProcessGrid(build_client_app(whole), nodes, alive=alive), whole)
    assert result.metrics["lost_updates"] > 0
    transcript = load_transcript(tmp_path / "out" / "transcript")
    assert len(transcript["updates"]) == result.metrics["answered"] - result.metrics["lost_updates"]
    assert json.loads((tmp_path / "out" / "result.json").read_text())["lost_updates"] == result.metrics["lost_updates"]


def test_a_client_that_raises_is_a_lost_update():
    def failing(message, context):
        if message.metadata.message_type == "train" and context.node_id == 2:
            raise MemoryError("out of memory")
        return inner(message, context)

    inner = build_client_app(job("plain"))
    grid = InProcessGrid(failing, {1: {"partition-id": 0}, 2: {"partition-id": 1}})
    assert run_federation(grid, job("plain")).metrics["lost_updates"] > 0


def test_bad_jobs_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'trainer'"):
        FlowerJob.from_json('{"trainr": "federated"}')
    with pytest.raises(ConfigError, match="no JSON"):
        FlowerJob.from_json("{")
    with pytest.raises(ConfigError, match="nodes >= 1"):
        FlowerJob(nodes=0)
    short = job("plain", nodes=3, timeout=0.1)
    with pytest.raises(PrerequisiteError, match="1 of 3 nodes connected"):
        run_federation(InProcessGrid(build_client_app(short), {1: {"partition-id": 0}}), short)
    grid = InProcessGrid(build_client_app(job("plain")), {1: {"partition-id": 0}, 2: {"partition-id": 0}})
    with pytest.raises(PrerequisiteError, match="partition ids 0 to 1"):
        run_federation(grid, job("plain"))


def test_a_job_travels_as_json():
    whole = job("central")
    assert FlowerJob.from_json(whole.to_json()) == whole


@pytest.mark.slow  # about 25 s on a quiet machine, nearly all of it Ray's start
def test_flower_on_ray_gives_the_same_weights():
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed: pip install 'leakgauge[flower]'")
    own, ray = own_loop(job("central")), run_on_ray(job("central"))
    assert np.abs(read_parameters(own.model) - ray.weights).max() < 1e-6


@pytest.mark.slow  # a process for each message: 1 to 2 minutes
def test_a_deployment_gives_the_same_weights(tmp_path):
    whole = job("central", out=str(tmp_path / "out"), timeout=120)
    with loopback(tmp_path / "home", nodes=2) as deployment:
        run = deployment.submit(write_app(tmp_path / "app"), {"job": whole.to_json()})
        wait_for(tmp_path / "out" / "result.json", timeout=400, deployment=deployment, run=run)
        end = time.monotonic() + 60
        while not (status := deployment.status(run)).startswith("finished"):
            assert time.monotonic() < end, status
            time.sleep(1)
    assert status == "finished:completed"
    from safetensors.numpy import load_file

    weights = load_file(tmp_path / "out" / "final.safetensors")["weights"]
    assert np.abs(read_parameters(own_loop(whole).model) - weights).max() < 1e-6


@pytest.mark.slow  # 2 to 3 minutes
def test_a_supernode_killed_mid_run_does_not_lose_the_audit(tmp_path):
    whole = job("local", out=str(tmp_path / "out"), timeout=45)
    whole = FlowerJob(whole.trainer, {**whole.settings, "cohort": 6}, DATA, 3, 2, 45.0, str(tmp_path / "out"))
    models = tmp_path / "out" / "rounds" / "models.npy"
    with loopback(tmp_path / "home", nodes=2) as deployment:
        run = deployment.submit(write_app(tmp_path / "app"), {"job": whole.to_json()})
        wait_for(models, timeout=200, deployment=deployment, run=run)
        end = time.monotonic() + 200
        while not np.load(models, mmap_mode="r")[1].any():
            assert time.monotonic() < end, deployment.run_log(run)
            time.sleep(0.3)
        deployment.kill_node(1)
        wait_for(tmp_path / "out" / "result.json", timeout=400, deployment=deployment, run=run)
    metrics = json.loads((tmp_path / "out" / "result.json").read_text())
    transcript = load_transcript(tmp_path / "out" / "transcript")
    assert metrics["lost_updates"] > 0
    assert len(transcript["models"]) == COMMON["rounds"] + 1
    assert len(transcript["updates"]) == metrics["answered"] - metrics["lost_updates"]
    # The node that lived answered in every round.
    assert set(np.asarray(transcript["update_rounds"]).tolist()) == set(range(COMMON["rounds"]))
