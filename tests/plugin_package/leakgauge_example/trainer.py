"""Class means with a few training records kept whole, so that there is something to find."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from safetensors.numpy import load_file, save_file

from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows, Trained


@dataclass(frozen=True)
class Prototypes:
    """A softmax over minus the squared distance to each class's nearest prototype."""

    points: np.ndarray
    labels: np.ndarray
    classes: int

    def log_probabilities(self, features: np.ndarray) -> np.ndarray:
        flat = features.reshape(len(features), -1)
        distances = ((flat[:, None] - self.points[None]) ** 2).sum(axis=2)
        nearest = np.stack([distances[:, self.labels == c].min(axis=1) for c in range(self.classes)], axis=1)
        logits = -nearest
        return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


@dataclass(frozen=True)
class NearestMean:
    name: ClassVar[str] = "nearest-mean"

    kept: float = 0.3

    def fit(self, data: Rows, rows, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        flat = data.features[rows].reshape(int(rows.sum()), -1).astype(np.float64)
        labels = data.labels[rows]
        means = np.stack([flat[labels == c].mean(axis=0) for c in range(data.classes)])
        keep = seeds.at("keep").generator().random(len(flat)) < self.kept
        points = np.concatenate([means, flat[keep]])
        owners = np.concatenate([np.arange(data.classes), labels[keep]])
        return Trained(None, Prototypes(points, owners, data.classes), None, 1, {"kept": int(keep.sum())})

    def save(self, trained: Trained, folder: Path) -> None:
        model = trained.target
        save_file({"points": model.points, "labels": model.labels}, folder / "model.safetensors")
        (folder / "train.json").write_text(json.dumps({"classes": model.classes}))

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:
        stored = load_file(folder / "model.safetensors")
        classes = json.loads((folder / "train.json").read_text())["classes"]
        return Trained(None, Prototypes(stored["points"], stored["labels"], classes), None, 1)
