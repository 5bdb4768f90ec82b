"""The project's own training: one noisy sum of clipped rows, read as a linear classifier."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from safetensors.numpy import load_file, save_file

from leakgauge.audit.accounting import dp_sgd_claim
from leakgauge.audit.claims_json import claim_from_json, claim_to_json
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Claim, Rows, Trained

DELTA = 1e-5


@dataclass(frozen=True)
class Linear:
    """log-probabilities of two classes by the sign of <weights, x>."""

    weights: np.ndarray

    def log_probabilities(self, features: np.ndarray) -> np.ndarray:
        logits = features.reshape(len(features), -1).astype(np.float64) @ self.weights
        return -np.logaddexp(0.0, np.stack([logits, -logits], axis=1)).astype(np.float32)


def noisy_sum(data: Rows, rows, noise_multiplier: float, seeds: Seeds) -> np.ndarray:
    flat = data.features[rows].reshape(int(rows.sum()), -1).astype(np.float64)
    flat /= np.maximum(1.0, np.linalg.norm(flat, axis=1, keepdims=True))
    total = ((2 * data.labels[rows] - 1)[:, None] * flat).sum(axis=0)
    return total + noise_multiplier * seeds.at("noise").generator().standard_normal(flat.shape[1])


@dataclass(frozen=True)
class NoisySum:
    """Gaussian mechanism of sensitivity 1: the sum of +-x over all rows, each clipped to norm 1, plus noise."""

    name: ClassVar[str] = "noisy-sum"

    noise_multiplier: float = 1.5

    def fit(self, data: Rows, rows, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        weights = noisy_sum(data, rows, self.noise_multiplier, seeds)
        return Trained(None, Linear(weights), self.planned_claim(int(rows.sum())), 1)

    def save(self, trained: Trained, folder: Path) -> None:
        save_file({"weights": trained.target.weights}, folder / "model.safetensors")
        claim = trained.claim and claim_to_json(trained.claim)
        (folder / "train.json").write_text(json.dumps({"claim": claim, "steps": trained.steps}))

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:
        stored = json.loads((folder / "train.json").read_text())
        claim = claim_from_json(stored["claim"]) if stored["claim"] else None
        return Trained(None, Linear(load_file(folder / "model.safetensors")["weights"]), claim, stored["steps"])

    def planned_claim(self, expected_rows: int) -> Claim | None:
        return dp_sgd_claim(noise_multiplier=self.noise_multiplier, sample_rate=1.0, steps=1, delta=DELTA)

    def unprotected(self) -> Unprotected:
        return Unprotected()


@dataclass(frozen=True)
class Unprotected:
    """The same sum without noise, and without a claim."""

    name: ClassVar[str] = "plain-sum"

    def fit(self, data: Rows, rows, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        return Trained(None, Linear(noisy_sum(data, rows, 0.0, seeds)), None, 1)

    def save(self, trained: Trained, folder: Path) -> None:
        NoisySum().save(trained, folder)

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:
        return NoisySum().load(folder, data, device=device)
