"""Signals from anywhere: an npz with probabilities of a target and its shadows, to evidence (DESIGN 5, `attack`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, IncompatibleError
from .types import Access, BoolArray, Evidence

SMALLEST = 1e-38
"""Probabilities below this become this one, so that their logarithm is finite (the smallest normal float32)."""


def read_signals(path: Path) -> tuple[Evidence, BoolArray]:
    """Evidence, and the truth about the target: model 0 is the target, the rest are shadows.

    Arrays: `probs` (models, records, classes), `labels` (records,), `inside` bool (models, records), and optionally
    `population_probs` (models, population, classes) with `population_labels` (population,).
    """
    arrays = _load(path)
    probs = _probabilities(path, "probs", arrays["probs"])
    models, records, classes = probs.shape
    inside = arrays["inside"].astype(bool)
    if inside.shape != (models, records):
        raise IncompatibleError(f"{path}: inside has shape {inside.shape}, expected ({models}, {records})")
    population = np.zeros((models, 0, classes), dtype=np.float32)
    labels = np.zeros(0, dtype=np.int64)
    if "population_probs" in arrays:
        if "population_labels" not in arrays:
            raise ConfigError(f"{path}: population_probs needs population_labels (population,)")
        population = _probabilities(path, "population_probs", arrays["population_probs"])
        labels = arrays["population_labels"].astype(np.int64)
    evidence = Evidence(
        labels=arrays["labels"].astype(np.int64),
        records=tuple(map(str, range(records))),
        target=probs[0],
        shadows=probs[1:],
        shadow_inside=inside[1:],
        population_labels=labels,
        population_target=population[0],
        population_shadows=population[1:],
        access=Access.LOGITS,
    )
    return evidence, inside[0]


def _load(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {k: stored[k] for k in stored.files}
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path}: not a readable npz file: {error}") from None
    for name in ("probs", "labels", "inside"):
        if name not in arrays:
            raise ConfigError(f"{path}: no array {name!r}; found {', '.join(arrays) or 'none'}")
    return arrays


def _probabilities(path: Path, name: str, values: NDArray[Any]) -> NDArray[np.float32]:
    """Natural logarithms of `values` (models, records, classes), after checking that they are probabilities."""
    if values.ndim != 3 or values.dtype.kind != "f":
        raise ConfigError(f"{path}: {name} must be float (models, records, classes), got {values.dtype} {values.shape}")
    if not np.isfinite(values).all():
        raise ConfigError(f"{path}: {name} holds {int((~np.isfinite(values)).sum())} values that are not finite")
    if values.min() < 0 or abs(values.sum(axis=2) - 1).max() > 1e-2:
        raise ConfigError(f"{path}: {name} must be probabilities that sum to 1 over classes; apply softmax first")
    logs: NDArray[np.float32] = np.log(np.maximum(values, SMALLEST)).astype(np.float32)
    return logs
