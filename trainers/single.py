"""One model, trained by itself: the reference that stacked training must equal."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..audit.seeds import Seeds
from ..audit.types import BoolArray, Rows
from .checkpoint import Checkpoint, State
from .models import build_model
from .recipe import Course, EarlyStopping, Recipe, course, identity
from .sampling import batch_stream, skip
from .snapshot import below, restore, snapshot
from .steps import Step, make_step
from .tensors import feature_tensor, fit_quality, label_tensor

if TYPE_CHECKING:
    from torch import Tensor, nn

BLOCK = 64
"""Steps whose batches are drawn ahead."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained module in evaluation mode, the optimizer steps taken, and its fit on its own training rows."""

    module: nn.Module
    steps: int
    metrics: dict[str, float]

    def finite(self) -> Fitted:
        """Itself. Raises `FloatingPointError` when training ended in infinite or NaN weights."""
        if not all(bool(part.isfinite().all()) for part in self.module.parameters()):
            raise FloatingPointError(
                "training ended in infinite or NaN weights: lower learning_rate, or look for records with huge values"
            )
        return self


@dataclass(slots=True)
class Patience:
    """Early stopping of one model: the lowest validation loss so far, and validations since then."""

    rule: EarlyStopping
    best: float = math.inf
    waited: int = 0

    def improved(self, loss: float) -> bool:
        """Take note of a validation; whether it was the best so far."""
        better = loss < self.best
        self.best, self.waited = (loss, 0) if better else (self.best, self.waited + 1)
        return better

    @property
    def over(self) -> bool:
        """Whether training should stop."""
        return self.waited >= self.rule.patience


def fit_single(
    recipe: Recipe, data: Rows, inside: BoolArray, *, seeds: Seeds, device: str, checkpoint: Path | None
) -> Fitted:
    """Train one model on the rows of `data` that are `inside`. Resumes from `checkpoint` bit for bit on the CPU."""
    run = _Run.start(recipe, data, inside, seeds=seeds, device=device)
    store = Checkpoint(checkpoint, identity(recipe, data, [(inside, seeds)]) if checkpoint else "")
    # The scope makes dropout, and any randomness inside a user's module, a function of the seeds.
    with seeds.at("dropout").torch_scope(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        if (state := store.read()) is not None:
            run.restore(state)
        try:
            run.train(seeds, store)
        finally:
            store.close()
    return run.result()


@dataclass(slots=True)
class _Run:
    recipe: Recipe
    course: Course
    features: Tensor
    labels: Tensor
    module: nn.Module
    fresh: nn.Module
    step: Step
    patience: Patience | None
    done: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def start(cls, recipe: Recipe, data: Rows, inside: BoolArray, *, seeds: Seeds, device: str) -> _Run:
        import torch

        dtype = getattr(torch, recipe.dtype)
        module = build_model(recipe.model, data.features.shape[1:], data.classes, seeds=seeds).to(device, dtype)
        return cls(
            recipe,
            course(recipe, inside, seeds=seeds),
            feature_tensor(data.features, dtype=dtype, device=device),
            label_tensor(data.labels, device=device),
            module,
            copy.deepcopy(module),  # Opacus leaves hooks and attributes behind, so the result is a clean copy.
            make_step(module, recipe, seeds=seeds, device=device),
            None if recipe.early_stopping is None else Patience(recipe.early_stopping),
        )

    def train(self, seeds: Seeds, store: Checkpoint) -> None:
        import torch

        stream = batch_stream(
            self.course.training,
            sampling=self.recipe.sampling,
            batch_size=self.recipe.batch_size,
            sample_rate=self.course.sample_rate,
            seeds=seeds,
        )
        skip(stream, self.done)
        while self.done < self.course.steps and not self._stopped():
            batches = stream.take(min(BLOCK, self.course.steps - self.done))
            positions = torch.from_numpy(batches.positions).to(self.labels.device)
            for batch in torch.split(positions, batches.sizes.tolist()):
                self.step(self.features[batch], self.labels[batch])
                self.done += 1
                store.count(1)
                self._validate()
                if self._stopped():
                    break
                if store.due():
                    store.write(self.state())
        store.write(self.state())

    def result(self) -> Fitted:
        import torch

        self.fresh.load_state_dict(self.best or self.module.state_dict())
        self.fresh.eval()
        rows = torch.from_numpy(self.course.training).to(self.labels.device)
        quality = fit_quality(self.fresh, self.features, self.labels, rows)
        metrics = {"train_loss": quality.loss, "train_accuracy": quality.accuracy}
        return Fitted(self.fresh, self.done, metrics)

    def state(self) -> State:
        tensors = snapshot(self.module, self.step.optimizer, self.step.noise, self.labels.device)
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        patience = None if self.patience is None else [self.patience.best, self.patience.waited]
        return State(tensors, {"done": self.done, "patience": patience})

    def restore(self, state: State) -> None:
        self.done = state.values["done"]
        restore(state.tensors, self.module, self.step.optimizer, self.step.noise, self.labels.device)
        self.best = {k: v.to(self.labels.device) for k, v in below(state.tensors, "best.").items()}
        if self.patience is not None:
            self.patience.best, self.patience.waited = state.values["patience"]

    def _validate(self) -> None:
        if self.patience is None or self.done % self.course.validate_every:
            return
        import torch

        rows = torch.from_numpy(self.course.validation).to(self.labels.device)
        if self.patience.improved(fit_quality(self.module, self.features, self.labels, rows).loss):
            self.best = {k: v.detach().clone() for k, v in self.module.state_dict().items()}

    def _stopped(self) -> bool:
        return self.patience is not None and self.patience.over
