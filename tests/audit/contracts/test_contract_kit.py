"""The contract kit passes our own plug-ins and names what is wrong with broken ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from leakgauge.attacks.membership import LossThreshold, Rmia
from leakgauge.audit.bounds import ClopperPearson, GuessCounts, OneRun
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.testing import ContractError, check_attack, check_bound, check_dataset, check_trainer
from leakgauge.audit.types import Access, Claim, Needs, Rows, Scores, Trained
from leakgauge.trainers.dpsgd import DpSgd
from leakgauge.trainers.sgd import Sgd

SEEDS = Seeds(11)


def rows(n: int = 60) -> Rows:
    generator = Seeds(2).generator()
    features = generator.normal(size=(n, 4)).astype(np.float32)
    return Rows(features, np.arange(n) % 2, tuple(map(str, range(n))), 2)


class Answer:
    def __init__(self, weights: np.ndarray) -> None:
        self.weights = weights

    def log_probabilities(self, features: np.ndarray) -> np.ndarray:
        logits = features @ self.weights
        return -np.logaddexp(0, np.stack([logits, -logits], axis=1)).astype(np.float32)


@dataclass(frozen=True)
class Good:
    """Sum of signed rows with a little noise: keeps every promise."""

    name: ClassVar[str] = "good"

    noise: float = 0.1

    def fit(self, data: Rows, inside: Any, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        total = ((2 * data.labels[inside] - 1)[:, None] * data.features[inside]).sum(axis=0)
        return Trained(None, Answer(total + self.noise * seeds.generator().normal(size=4)), self.claim(), 1)

    def claim(self) -> Claim | None:
        return None

    def save(self, trained: Trained, folder: Path) -> None:
        np.save(folder / "weights.npy", trained.target.weights)
        (folder / "train.json").write_text(json.dumps({"steps": trained.steps}))

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:
        return Trained(None, Answer(np.load(folder / "weights.npy")), self.claim(), 1)


class Mutable:
    name = "mutable"

    def __init__(self) -> None:
        self.noise = 1.0


@dataclass(frozen=True)
class Forgetful(Good):
    calls: ClassVar[list[int]] = []

    def fit(self, data, inside, *, seeds, device, checkpoint=None):
        self.calls.append(1)
        return super().fit(data, inside, seeds=seeds.at(len(self.calls)), device=device)


@dataclass(frozen=True)
class Peeking(Good):
    def fit(self, data, inside, *, seeds, device, checkpoint=None):
        return super().fit(data, np.ones(len(data), bool), seeds=seeds, device=device)


@dataclass(frozen=True)
class Meddling(Good):
    def fit(self, data, inside, *, seeds, device, checkpoint=None):
        data.features[0] += 1
        return super().fit(data, inside, seeds=seeds, device=device)


@dataclass(frozen=True)
class Quiet(Good):
    noise: float = 0.0

    def claim(self) -> Claim | None:
        return Claim(1.0, 1e-5)


@dataclass(frozen=True)
class Pickling(Good):
    def save(self, trained, folder):
        (folder / "model.pkl").write_bytes(b"")


@dataclass(frozen=True)
class Rounding(Good):
    def load(self, folder, data, *, device):
        return Trained(None, Answer(np.load(folder / "weights.npy").round(1)), None, 1)


@dataclass(frozen=True)
class Unnormalised(Good):
    def fit(self, data, inside, *, seeds, device, checkpoint=None):
        trained = super().fit(data, inside, seeds=seeds, device=device)
        answer = trained.target.log_probabilities

        class Shifted(Answer):
            def log_probabilities(self, features):
                return answer(features) + 1

        return replace(trained, target=Shifted(trained.target.weights))


@pytest.mark.parametrize(
    "trainer",
    [
        Good(),
        Sgd(epochs=1, hidden=(4,), batch_size=16, nominal_rows=30),
        DpSgd(epochs=1, hidden=(4,), batch_size=16, nominal_rows=30, noise_multiplier=1.0),
    ],
    ids=lambda t: t.name,
)
def test_sound_trainers_pass(trainer, tmp_path):
    check_trainer(trainer, rows(), tmp_path / "saved", seeds=SEEDS)


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        (Mutable(), "can be changed"),
        (Forgetful(), "same seeds differ"),
        (Peeking(), "records it was not to train on"),
        (Meddling(), "changed the data"),
        (Quiet(), "noise is no secret"),
        (Pickling(), "unpickled"),
        (Rounding(), "differs from the one saved"),
        (Unnormalised(), "sum to 2.718"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else None,
)
def test_broken_trainers_are_named(trainer, words, tmp_path):
    with pytest.raises(ContractError, match=words):
        check_trainer(trainer, rows(), tmp_path / "saved", seeds=SEEDS)


@dataclass(frozen=True)
class ByLoss:
    name: ClassVar[str] = "by-loss"

    flaw: str = ""
    calls: ClassVar[list[int]] = []

    @property
    def needs(self) -> Needs:
        return Needs(access=Access.LOGITS)

    def score(self, evidence, *, seeds):
        own = evidence.target[np.arange(len(evidence.labels)), evidence.labels].astype(np.float64)
        records = evidence.records
        self.calls.append(1)
        if self.flaw == "sign":
            own = -own
        elif self.flaw == "infinite":
            own[0] = np.inf
        elif self.flaw == "order":
            records = records[::-1]
        elif self.flaw == "random":
            own = own + Seeds(0).at(len(self.calls)).generator().normal(size=len(own))
        elif self.flaw == "position":
            own = own + np.arange(len(own)) / len(own)
        elif self.flaw == "writes":
            evidence.target[0] = 0
        return Scores(own, records)


def test_sound_attacks_pass():
    for attack in (ByLoss(), LossThreshold(), Rmia()):
        check_attack(attack, seeds=SEEDS)


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        ("sign", "higher scores must mean"),
        ("infinite", "finite"),
        ("order", "reordered"),
        ("random", "same seeds differ"),
        ("position", "when the records are reordered"),
        ("writes", "changed the evidence"),
    ],
)
def test_broken_attacks_are_named(flaw, words):
    with pytest.raises(ContractError, match=words):
        check_attack(ByLoss(flaw), seeds=SEEDS)


def test_sound_bounds_pass():
    # A sound bound fails one of the three coverage checks with probability at most 3e-4; the seed is fixed.
    check_bound(OneRun(), seeds=SEEDS, trials=500)
    check_bound(ClopperPearson(), seeds=SEEDS, trials=500)


class Greedy(OneRun):
    name = "greedy"

    def epsilon_lower(self, counts: GuessCounts, *, delta: float, alpha: float) -> float:
        return super().epsilon_lower(counts, delta=delta, alpha=min(0.5, 20 * alpha))


class Falling(OneRun):
    name = "falling"

    def epsilon_lower(self, counts: GuessCounts, *, delta: float, alpha: float) -> float:
        missed = replace(counts, correct=counts.guesses - counts.correct)
        return super().epsilon_lower(missed, delta=delta, alpha=alpha)


@pytest.mark.parametrize(
    ("bound", "words"), [(Greedy(), "above the true epsilon"), (Falling(), "certify less|ceiling")]
)
def test_broken_bounds_are_named(bound, words):
    with pytest.raises(ContractError, match=words):
        check_bound(bound, seeds=SEEDS, trials=500)


def test_data_sets():
    check_dataset("wine", seeds=SEEDS)
