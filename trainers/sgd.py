"""Ordinary training: SGD or Adam, with the classic regularisers. Makes no privacy claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from ..audit.canaries import CanarySet, Witnessed
from ..audit.errors import ConfigError
from ..audit.releases import ReleaseFacts
from ..audit.seeds import Seeds
from ..audit.types import BoolArray, Job, Progress, Rows, Trained, silent
from .models import ModelSpec, build_model
from .persistence import load_trained, plain_spec, save_trained
from .recipe import EarlyStopping, OptimizerSpec, Recipe
from .release import gaussian_release, per_record_gradients
from .single import Fitted, fit_single
from .stacked import fit_stack
from .targets import TorchTarget
from .transformer import TransformerTable
from .transformer.files import outside_files

GRADIENT_KINDS = ("gradient-dirac", "gradient-random")
"""Kinds of canaries that training by example hosts (`trainers.whitebox`)."""


@dataclass(frozen=True, slots=True)
class Sgd:
    """Cross-entropy by SGD with momentum or Adam.

    `model`: "mlp" (layer widths `hidden`), "cnn" (`channels`), "logistic", "transformer" (the table `transformer`,
    see `TransformerSpec`) or "module:attr", a callable (input_shape, classes) -> torch.nn.Module. `sampling`
    "shuffle" passes over the rows in random order in batches of exactly `batch_size`; "poisson" includes every row
    in every step with probability batch_size / nominal_rows, the data flow of DP-SGD. Gradients are divided by
    `batch_size`. `nominal_rows` is the public size that fixes the number of steps; without it each model goes by
    its own number of rows. With `early_stopping_patience`, training ends when the loss on a `validation_fraction`
    of the training rows has not improved for so many epochs.
    """

    name: ClassVar[str] = "sgd"
    version: ClassVar[str] = "1"

    model: str = "mlp"
    hidden: tuple[int, ...] = (128,)
    channels: tuple[int, ...] = (8, 16)
    epochs: float = 30
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    dropout: float = 0.0
    optimizer: Literal["sgd", "adam"] = "sgd"
    early_stopping_patience: int | None = None
    validation_fraction: float = 0.1
    nominal_rows: int | None = None
    sampling: Literal["shuffle", "poisson"] = "shuffle"
    dtype: Literal["float32", "float64"] = "float32"
    transformer: TransformerTable | None = None

    def __post_init__(self) -> None:
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            raise ConfigError(f"early_stopping_patience must be >= 1, got {self.early_stopping_patience}")
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(f"validation_fraction must lie in (0, 1), got {self.validation_fraction}")
        self.recipe()

    def recipe(self) -> Recipe:
        """This trainer as the training loops see it. Raises `ConfigError` for values out of range."""
        stop = self.early_stopping_patience
        return Recipe(
            model=ModelSpec(self.model, tuple(self.hidden), tuple(self.channels), self.dropout, self.transformer),
            optimizer=OptimizerSpec(self.optimizer, self.learning_rate, self.momentum, self.weight_decay),
            epochs=self.epochs,
            batch_size=self.batch_size,
            sampling=self.sampling,
            nominal_rows=self.nominal_rows,
            dtype=self.dtype,
            early_stopping=None if stop is None else EarlyStopping(stop, self.validation_fraction),
        )

    def outside(self) -> dict[str, str]:
        """Digests of the files that training starts from; empty where there are none."""
        return outside_files(self.transformer)

    def release_facts(self, delta: float) -> ReleaseFacts:
        """As in `ReleasesUpdates`: nothing is clipped or noised."""
        return gaussian_release(None, delta)

    def fresh_model(self, data: Rows, *, seeds: Seeds, device: str) -> Any:
        """As in `ReleasesUpdates`."""
        return build_model(self.recipe().model, data.features.shape[1:], data.classes, seeds=seeds).to(device)

    def updates(self, module: Any, features: Any, labels: Any) -> Any:
        """As in `ReleasesUpdates`: gradients."""
        return per_record_gradients(module, features, labels)

    def hosts(self) -> tuple[str, ...]:
        """As in `CanaryHost`; canaries need the data flow of DP-SGD, whose twin this is."""
        return GRADIENT_KINDS if self.sampling == "poisson" else ()

    def planned_canary_claim(self, expected_rows: int, canaries: CanarySet) -> None:
        """As in `CanaryHost`: nothing is claimed."""

    def fit_with_canaries(
        self,
        data: Rows,
        rows: BoolArray,
        canaries: CanarySet,
        *,
        seeds: Seeds,
        device: str,
        checkpoint: Path | None = None,  # noqa: ARG002
        progress: Progress = silent,
    ) -> Witnessed:
        """As in `CanaryHost`: the observer sees every sum of gradients."""
        from .whitebox.hosting import host_gradient_canaries

        nominal = self.nominal_rows or len(rows) // 2
        return host_gradient_canaries(
            replace(self.recipe(), nominal_rows=nominal),
            data,
            rows,
            canaries,
            None,
            noise_multiplier=0.0,
            seeds=seeds,
            device=device,
            progress=progress,
        )

    def planned_steps(self, expected_rows: int) -> int:
        """Optimizer steps of one model, known before training; `expected_rows` where `nominal_rows` is open."""
        return self.recipe().steps(expected_rows)

    def fit(self, data: Rows, rows: BoolArray, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        """As in `Trainer`."""
        fitted = fit_single(self.recipe(), data, rows, seeds=seeds, device=device, checkpoint=checkpoint)
        return _trained(fitted, device)

    def fit_many(
        self,
        data: Rows,
        jobs: Sequence[Job],
        *,
        device: str,
        checkpoint: Path | None = None,
        progress: Progress = silent,
    ) -> list[Trained]:
        """As in `StackedTrainer`."""
        fitted = fit_stack(self.recipe(), data, jobs, device=device, checkpoint=checkpoint, progress=progress)
        return [_trained(each, device) for each in fitted]

    def save(self, trained: Trained, folder: Path) -> None:
        """As in `Trainer`."""
        save_trained(trained, folder, spec=plain_spec(self))

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:
        """As in `Trainer`."""
        return load_trained(folder, data, recipe=self.recipe(), device=device)


def _trained(fitted: Fitted, device: str) -> Trained:
    fitted.finite()
    return Trained(fitted.module, TorchTarget(fitted.module, device), None, fitted.steps, fitted.metrics)
