from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from leakgauge.audit.errors import ConfigError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows
from leakgauge.trainers.federated.cohort import client_seeds
from leakgauge.trainers.federated.layout import read_parameters, write_parameters
from leakgauge.trainers.federated.local import LocalPlan, local_update
from leakgauge.trainers.federated.partition import PartitionSpec, partition_rows
from leakgauge.trainers.federated.stack import LocalTrainer
from leakgauge.trainers.models import ModelSpec, build_model


def make_trainer(data: Rows, plan: LocalPlan, spec: ModelSpec | None = None, clients: int = 9) -> LocalTrainer:
    partition = partition_rows(data, PartitionSpec("dirichlet", clients, 0.4, seed=2))
    held = partition.rows_of(np.arange(len(data)) % 5 != 0)
    held[3] = held[3][:0]  # a client without data
    module = build_model(spec or ModelSpec("mlp", (6,)), data.features.shape[1:], data.classes, seeds=Seeds(1))
    features, labels = torch.from_numpy(data.features), torch.from_numpy(data.labels)
    return LocalTrainer(module, features, labels, held, partition.clients, plan)


def collect(trainer: LocalTrainer, weights: Any, chosen: list[int], round_number: int = 4) -> dict[int, Any]:
    found = {}
    for part in trainer.updates(weights, {}, np.array(chosen), seeds=Seeds(7), round_number=round_number):
        found |= dict(zip(part.clients.tolist(), part.deltas, strict=True))
    return found


@pytest.mark.parametrize("plan", [LocalPlan("fedavg", 2, 8, 0.1), LocalPlan("fedsgd", learning_rate=0.3)])
@pytest.mark.parametrize("name", ["mlp", "logistic"])
def test_clients_together_equal_clients_one_by_one(blobs: Rows, plan: LocalPlan, name: str) -> None:
    trainer = make_trainer(blobs, plan, ModelSpec(name, (6,)))
    weights = read_parameters(trainer.module)
    together = collect(trainer, weights, list(range(9)))
    assert trainer.stacked
    for client in range(9):
        rows = torch.from_numpy(trainer.rows[client])
        alone = local_update(
            trainer.module,
            weights,
            trainer.features[rows],
            trainer.labels[rows],
            plan,
            seeds=client_seeds(Seeds(7), 4, trainer.names[client]),
        )
        assert np.allclose(together[client], alone.delta, atol=1e-6)
        assert alone.examples == len(rows)


def test_fedsgd_is_one_gradient_step(blobs: Rows) -> None:
    trainer = make_trainer(blobs, LocalPlan("fedsgd", learning_rate=0.5))
    weights = read_parameters(trainer.module)
    update = collect(trainer, weights, [0])[0]
    write_parameters(trainer.module, weights)
    rows = torch.from_numpy(trainer.rows[0])
    loss = nn.functional.cross_entropy(trainer.module(trainer.features[rows]), trainer.labels[rows])
    gradient = torch.cat([g.ravel() for g in torch.autograd.grad(loss, list(trainer.module.parameters()))])
    assert np.allclose(update, -0.5 * gradient.numpy(), atol=1e-6)


def test_a_client_does_the_same_whoever_else_takes_part(blobs: Rows) -> None:
    trainer = make_trainer(blobs, LocalPlan("fedavg", 2, 8, 0.1))
    weights = read_parameters(trainer.module)
    assert np.allclose(collect(trainer, weights, [2])[2], collect(trainer, weights, [0, 2, 5])[2], atol=1e-7)
    # Batches are drawn anew in every round.
    assert not np.allclose(collect(trainer, weights, [2])[2], collect(trainer, weights, [2], 5)[2], atol=1e-6)


def test_a_client_without_rows_sends_zeros_and_one_of_one_class_trains(blobs: Rows) -> None:
    trainer = make_trainer(blobs, LocalPlan())
    weights = read_parameters(trainer.module)
    assert not collect(trainer, weights, [3])[3].any()
    one_class = np.flatnonzero(blobs.labels == 1)
    trainer.rows = [one_class if i == 0 else rows for i, rows in enumerate(trainer.rows)]
    update = collect(trainer, weights, [0])[0]
    assert np.isfinite(update).all()
    assert update.any()


def normalised(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A model with running statistics."""
    return nn.Sequential(nn.Linear(shape[0], 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, classes))


def test_models_with_buffers_train_one_by_one_and_frozen_buffers_stay(blobs: Rows) -> None:
    plan = LocalPlan("fedavg", 1, 8, 0.1)
    trainer = make_trainer(blobs, plan, ModelSpec(f"{__name__}:normalised"))
    weights = read_parameters(trainer.module)
    assert not trainer.stacked
    rows = torch.from_numpy(trainer.rows[0])
    arguments = (trainer.module, weights, trainer.features[rows], trainer.labels[rows], plan)
    moved = local_update(*arguments, seeds=Seeds(3))
    assert np.abs(moved.buffers["1.running_mean"]).max() > 0
    fresh = make_trainer(blobs, plan, ModelSpec(f"{__name__}:normalised")).module
    frozen = local_update(fresh, *arguments[1:], seeds=Seeds(3), freeze_buffers=True)
    assert not frozen.buffers["1.running_mean"].any()


@pytest.mark.parametrize("wrong", [{"algorithm": "sgd"}, {"epochs": 0}, {"batch_size": 0}, {"learning_rate": -1.0}])
def test_wrong_plans_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        LocalPlan(**wrong)
