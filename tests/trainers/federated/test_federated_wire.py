from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows
from leakgauge.trainers.federated.trainer import DpFederated, Federated
from leakgauge.trainers.federated.wire import wire_figures
from leakgauge.trainers.supermask.federated import DpFederatedSupermask

WEIGHTS, PARAMETERS = 8 * 6 + 6 * 4, 8 * 6 + 6 + 6 * 4 + 4
SMALL: dict[str, Any] = {"hidden": (6,), "clients": 5, "cohort": 3, "rounds": 4, "batch_size": 16}
NOISY: dict[str, Any] = {"noise_multiplier": 1.0, "view": "sum", "least_cohort": 2, "noise": "distributed"}
MASKS: dict[str, Any] = {"rule": "sign", "learning_rate": 0.02, "upload": "flips", "flip_budget": 10}


def rows() -> Rows:
    generator = Seeds(3).generator()
    features = generator.normal(size=(60, 8)).astype(np.float32)
    return Rows(features, generator.integers(0, 4, 60), tuple(f"r{i}" for i in range(60)), 4)


def sent(trainer: Any) -> Any:
    return trainer.fit(rows(), np.ones(60, np.bool_), seeds=Seeds(1), device="cpu").metrics


@pytest.mark.parametrize(
    ("trainer", "bits", "parameters"),
    [
        (Federated(model="mlp", **SMALL), 32, PARAMETERS),
        (Federated(model="mlp", **SMALL, dtype="float64", client_dropout=0.4), 64, PARAMETERS),
        (DpFederated(model="mlp", **SMALL, noise_multiplier=1.0, view="global-models"), 32, PARAMETERS),
        # Integers of secure aggregation have 32 bits, whatever the model computes in.
        (DpFederated(model="mlp", **SMALL, **NOISY, dtype="float64"), 32, PARAMETERS),
        # A client that adds its own noise sends a dense vector, not ten flips.
        (DpFederatedSupermask(**SMALL, **MASKS, **NOISY), 32, WEIGHTS),
    ],
    ids=["plain", "double", "central", "distributed", "noisy flips"],
)
def test_dense_uploads_count_every_parameter_of_everyone_who_answers(trainer: Any, bits: int, parameters: int) -> None:
    found = sent(trainer)
    answered = found["mean_cohort"] * 4
    assert found["bits_per_parameter"] == bits
    assert found["upload_bytes_per_client_round"] == bits / 8 * parameters
    assert found["upload_bytes"] == pytest.approx(answered * bits / 8 * parameters)
    asked = answered + found.get("dropouts", 0)
    assert found["download_bytes"] == pytest.approx(asked * bits / 8 * parameters)


def test_flips_without_noise_of_their_own_stay_cheap() -> None:
    found = sent(DpFederatedSupermask(**SMALL, **MASKS, noise_multiplier=1.0, view="global-models"))
    # At most ten places of 7 bits with their signs, after their number.
    assert found["upload_bytes_per_client_round"] <= (32 + 10 * (7 + 1)) / 8
    assert found["download_bytes"] % (4 * WEIGHTS) == 0


def test_nobody_answers() -> None:
    found = wire_figures(10, uploads=0, upload_bits=0.0, download_bits=320.0)
    assert found["bits_per_parameter"] == found["upload_bytes"] == 0
    assert found["download_bytes"] == 40
