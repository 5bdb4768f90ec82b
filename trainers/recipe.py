"""What the training loops need to know of a trainer: one neutral value, the same for one model and for a stack."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Literal

import numpy as np

from ..audit.errors import ConfigError
from ..audit.seeds import Seeds
from ..audit.types import BoolArray, Rows
from .models import ModelSpec
from .sampling import Positions

Sampling = Literal["shuffle", "poisson"]
Clipping = Literal["hooks", "ghost"]


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """`torch.optim.SGD` or `Adam` with a constant learning rate; weight decay is added to the gradient (L2)."""

    name: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in ("sgd", "adam"):
            raise ConfigError(f"optimizer must be 'sgd' or 'adam', got {self.name!r}")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate must be > 0, got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must lie in [0, 1), got {self.momentum}")
        if not self.weight_decay >= 0:
            raise ConfigError(f"weight_decay must be >= 0, got {self.weight_decay}")


@dataclass(frozen=True, slots=True)
class Protection:
    """The Gaussian mechanism of one DP-SGD step: each example's gradient clipped to `max_grad_norm`, noise of standard
    deviation `noise_multiplier * max_grad_norm` on the sum."""

    noise_multiplier: float
    max_grad_norm: float
    clipping: Clipping = "hooks"


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """Stop when the loss on a held-out `fraction` of the training rows has not improved for `patience` epochs, and go
    back to the best weights seen."""

    patience: int
    fraction: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that shapes a model but its rows and seeds. Gradients are sums over the batch divided by the constant
    `batch_size`, never by the number of rows that Poisson sampling happened to give.

    `nominal_rows` None means: the number of rows given (not allowed for a private recipe).
    """

    model: ModelSpec
    optimizer: OptimizerSpec
    epochs: float
    batch_size: int
    sampling: Sampling
    nominal_rows: int | None = None
    dtype: Literal["float32", "float64"] = "float32"
    protection: Protection | None = None
    early_stopping: EarlyStopping | None = None

    def __post_init__(self) -> None:
        for key, value in (
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("nominal_rows", self.nominal_rows),
        ):
            if value is not None and not value > 0:
                raise ConfigError(f"{key} must be > 0, got {value}")
        if self.sampling not in ("shuffle", "poisson"):
            raise ConfigError(f"sampling must be 'shuffle' or 'poisson', got {self.sampling!r}")
        if self.dtype not in ("float32", "float64"):
            raise ConfigError(f"dtype must be 'float32' or 'float64', got {self.dtype!r}")

        if self.sampling == "poisson" and self.nominal_rows and self.batch_size > self.nominal_rows:
            raise ConfigError(
                f"batch_size {self.batch_size} is above nominal_rows {self.nominal_rows}: the sampling rate "
                "batch_size / nominal_rows must be at most 1"
            )

    def size(self, rows: int) -> float:
        """The number of training rows that the schedule goes by: public where `nominal_rows` is, else `rows`. Rows held
        out for early stopping are not among them."""
        held_out = self.early_stopping.fraction if self.early_stopping else 0.0
        return rows if self.nominal_rows is None else self.nominal_rows * (1 - held_out)

    def sample_rate(self, rows: int) -> float:
        """Poisson sampling rate q = batch_size / size, at most 1."""
        return min(1.0, self.batch_size / self.size(rows))

    def steps(self, rows: int) -> int:
        """Optimizer steps for `rows` training rows (used only where `nominal_rows` is None); at least 1."""
        if self.sampling == "poisson":
            return max(1, round(self.epochs / self.sample_rate(rows)))
        return max(1, ceil(self.epochs * self.size(rows) / self.batch_size))


@dataclass(frozen=True, slots=True)
class Course:
    """One model's training: positions of its rows, steps to take, and the interval between validations."""

    training: Positions
    validation: Positions
    steps: int
    sample_rate: float
    validate_every: int


def course(recipe: Recipe, inside: BoolArray, *, seeds: Seeds) -> Course:
    """The course of one job. Raises `ConfigError` when no training rows are left for a trainer that needs some."""
    rows = np.flatnonzero(inside).astype(np.int64)
    validation = np.empty(0, np.int64)
    stop = recipe.early_stopping
    if stop is not None:
        held_out = round(len(rows) * stop.fraction)
        validation = np.sort(seeds.at("validation").generator().permutation(rows)[:held_out])
        rows = np.setdiff1d(rows, validation)
        if not len(validation):
            raise ConfigError(f"early stopping: validation_fraction {stop.fraction} of {inside.sum()} rows is no row")
    if not len(rows) and recipe.protection is None:
        raise ConfigError("the trainer was given no training rows")
    every = max(1, ceil(recipe.size(len(rows)) / recipe.batch_size))
    rate = recipe.sample_rate(len(rows)) if recipe.sampling == "poisson" else 0.0
    return Course(rows, validation, recipe.steps(len(rows)), rate, every)


def identity(recipe: Recipe, data: Rows, jobs: list[tuple[BoolArray, Seeds]]) -> str:
    """A digest of everything that shapes these models: a checkpoint with another digest belongs to another training."""
    digest = hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode())
    digest.update(data.fingerprint().encode())
    for inside, seeds in jobs:
        digest.update(np.packbits(inside).tobytes())
        digest.update(repr((len(inside), seeds)).encode())
    return digest.hexdigest()


def describe(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON values, for `train.json`."""
    return json.loads(json.dumps(asdict(recipe)))  # type: ignore[no-any-return]
