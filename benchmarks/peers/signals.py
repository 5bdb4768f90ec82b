"""The attack fixture: digits with noisy labels, targets by independent coins, shadows in complementary pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...audit.design import coin_flips, paired_coin_flips
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Evidence, Job, Rows
from ...trainers.data import DataSpec, load_data
from ...trainers.sgd import Sgd

TARGETS, SHADOWS = 12, 32
AUDIT_RECORDS, LABEL_NOISE = 1200, 0.2


@dataclass(frozen=True, slots=True)
class SignalsFixture:
    """Probabilities (targets + shadows, records, classes) float32, targets first; membership of all; population.

    Every target is an audit of its own: model `t` with the shadows, which are shared.
    """

    probs: NDArray[np.float32]
    labels: NDArray[np.int64]
    inside: BoolArray
    population_probs: NDArray[np.float32]
    population_labels: NDArray[np.int64]
    targets: int
    train_accuracy: float
    test_accuracy: float

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything for the peers' process."""
        return {
            "probs": self.probs,
            "labels": self.labels,
            "inside": self.inside,
            "population_probs": self.population_probs,
            "population_labels": self.population_labels,
        }

    def write(self, path: Path, target: int = 0) -> None:
        """One audit in the format of `leakgauge attack`: the target is model 0, the shadows follow."""
        rows = [target, *range(self.targets, len(self.probs))]
        np.savez_compressed(
            path,
            probs=self.probs[rows],
            labels=self.labels,
            inside=self.inside[rows],
            population_probs=self.population_probs[rows],
            population_labels=self.population_labels,
        )

    def evidence(self, target: int) -> Evidence:
        """What the attacker of one target sees."""
        logs = np.log(np.maximum(self.probs, np.finfo(np.float32).tiny))
        population = np.log(np.maximum(self.population_probs, np.finfo(np.float32).tiny))
        return Evidence(
            labels=self.labels,
            records=tuple(map(str, range(len(self.labels)))),
            target=logs[target],
            shadows=logs[self.targets :],
            shadow_inside=self.inside[self.targets :],
            population_labels=self.population_labels,
            population_target=population[target],
            population_shadows=population[self.targets :],
        )


def fixture_trainer() -> Sgd:
    """MLP 64-128-10 that memorises noisy labels: train accuracy about 0.82, test 0.75."""
    return Sgd(optimizer="adam", learning_rate=0.002, epochs=50, batch_size=64, nominal_rows=AUDIT_RECORDS // 2)


def signals_fixture(
    *, seeds: Seeds, targets: int = TARGETS, shadows: int = SHADOWS, trainer: Sgd | None = None
) -> SignalsFixture:
    """Trains targets and shadows in one stack on the CPU and queries them on audit and population records."""
    loaded = load_data(DataSpec(seed=seeds.root, name="digits", label_noise=LABEL_NOISE), AUDIT_RECORDS)
    audit, public = loaded.rows.take(loaded.audit), loaded.rows.take(~loaded.audit)
    inside = np.concatenate(
        [
            coin_flips(audit.records, targets, seeds=seeds.at("targets")).inside,
            paired_coin_flips(audit.records, shadows, seeds=seeds.at("shadows")).inside,
        ]
    )
    jobs = [Job(row, seeds.at("model", index)) for index, row in enumerate(inside)]
    trained = (trainer or fixture_trainer()).fit_many(audit, jobs, device="cpu")
    probs = np.stack([np.exp(model.target.log_probabilities(audit.features)) for model in trained])
    population = np.stack([np.exp(model.target.log_probabilities(public.features)) for model in trained])
    right = probs.argmax(axis=2) == audit.labels
    return SignalsFixture(
        probs=probs.astype(np.float32),
        labels=audit.labels,
        inside=inside,
        population_probs=population.astype(np.float32),
        population_labels=public.labels,
        targets=targets,
        train_accuracy=float(right[inside].mean()),
        test_accuracy=_accuracy(population, public),
    )


def _accuracy(probs: NDArray[np.floating], rows: Rows) -> float:
    return float((probs.argmax(axis=2) == rows.labels).mean())
