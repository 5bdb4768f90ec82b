"""DP-SGD: per-example clipping, Gaussian noise, Poisson sampling (Abadi et al. 2016, arXiv 1607.00133), by Opacus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from ..audit.canaries import CanarySet, Witnessed
from ..audit.errors import ConfigError
from ..audit.releases import ReleaseFacts
from ..audit.seeds import Seeds
from ..audit.types import BoolArray, Claim, Job, Progress, Rows, Trained, silent
from .models import ModelSpec
from .persistence import load_trained, plain_spec, save_trained
from .promise import calibrated_noise, check_promise, sampled_claim
from .recipe import OptimizerSpec, Protection, Recipe
from .release import clipped, gaussian_release, per_record_gradients
from .sgd import GRADIENT_KINDS, Sgd
from .single import Fitted, fit_single
from .stacked import fit_stack
from .targets import TorchTarget
from .transformer import TransformerTable
from .transformer.files import outside_files
from .transformer.spec import assumed_public


@dataclass(frozen=True, slots=True)
class DpSgd:
    """SGD or Adam on clipped and noised gradients.

    Give `epsilon` and `delta`, and the noise is calibrated by PLD accounting, or `noise_multiplier` (standard deviation
    over `max_grad_norm`) and `delta`. `nominal_rows` is public and required: the sampling rate is q = batch_size /
    nominal_rows, the steps are round(epochs / q), and summed gradients are divided by `batch_size`, whatever the
    number of rows turns out to be. `clipping`: "hooks" holds per-sample gradients, "ghost" computes norms first and
    takes less memory; the models are equal to rounding. Stacked training uses norms.
    """

    name: ClassVar[str] = "dp-sgd"
    version: ClassVar[str] = "1"

    model: str = "mlp"
    hidden: tuple[int, ...] = (128,)
    channels: tuple[int, ...] = (8, 16)
    epsilon: float | None = None
    delta: float = 1e-5
    noise_multiplier: float | None = None
    epochs: float = 30
    max_grad_norm: float = 1.0
    batch_size: int = 64
    nominal_rows: int | None = None
    learning_rate: float = 0.5
    momentum: float = 0.0
    weight_decay: float = 0.0
    dropout: float = 0.0
    optimizer: Literal["sgd", "adam"] = "sgd"
    clipping: Literal["hooks", "ghost"] = "hooks"
    dtype: Literal["float32", "float64"] = "float32"
    transformer: TransformerTable | None = None

    def __post_init__(self) -> None:
        check_promise(self, plain="sgd")
        if self.clipping not in ("hooks", "ghost"):
            raise ConfigError(f"clipping must be 'hooks' or 'ghost', got {self.clipping!r}")
        self.unprotected().recipe()

    def recipe(self) -> Recipe:
        """This trainer as the training loops see it. Raises `ConfigError` without `nominal_rows`."""
        return self._recipe(self._public_rows())

    def fit(self, data: Rows, rows: BoolArray, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        """As in `Trainer`. Raises `IncompatibleError` for a model that couples examples (batch normalisation)."""
        fitted = fit_single(self.recipe(), data, rows, seeds=seeds, device=device, checkpoint=checkpoint)
        return self._trained(fitted, device)

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
        return [self._trained(each, device) for each in fitted]

    def save(self, trained: Trained, folder: Path) -> None:
        """As in `Trainer`."""
        save_trained(trained, folder, spec=plain_spec(self))

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:
        """As in `Trainer`."""
        return load_trained(folder, data, recipe=self.recipe(), device=device)

    def unprotected(self) -> Sgd:
        """The same model, sampling, steps and divisor without clipping and noise."""
        return Sgd(
            model=self.model,
            hidden=self.hidden,
            channels=self.channels,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            dropout=self.dropout,
            optimizer=self.optimizer,
            nominal_rows=self.nominal_rows,
            sampling="poisson",
            dtype=self.dtype,
            transformer=self.transformer,
        )

    def outside(self) -> dict[str, str]:
        """Digests of the files that training starts from; empty where there are none."""
        return outside_files(self.transformer)

    def release_facts(self, delta: float) -> ReleaseFacts:
        """As in `ReleasesUpdates`: one step at full participation."""
        return gaussian_release(self._recipe(self.nominal_rows or 1 << 20).protection, delta)

    def fresh_model(self, data: Rows, *, seeds: Seeds, device: str) -> Any:
        """As in `ReleasesUpdates`."""
        return self.unprotected().fresh_model(data, seeds=seeds, device=device)

    def updates(self, module: Any, features: Any, labels: Any) -> Any:
        """As in `ReleasesUpdates`: clipped gradients."""
        return clipped(per_record_gradients(module, features, labels), self.max_grad_norm)

    def hosts(self) -> tuple[str, ...]:
        """As in `CanaryHost`."""
        return GRADIENT_KINDS

    def planned_canary_claim(self, expected_rows: int, canaries: CanarySet) -> Claim:  # noqa: ARG002
        """As in `CanaryHost`: room for canaries changes neither sampling rate nor steps nor noise."""
        return self.planned_claim(expected_rows)

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
        """As in `CanaryHost`: the observer sees every noisy sum of gradients."""
        from .whitebox.hosting import host_gradient_canaries

        recipe = self._recipe(self.nominal_rows or len(rows) // 2)
        assert recipe.protection is not None
        return host_gradient_canaries(
            recipe,
            data,
            rows,
            canaries,
            self._claim(recipe, recipe.steps(0)),
            noise_multiplier=recipe.protection.noise_multiplier,
            seeds=seeds,
            device=device,
            progress=progress,
        )

    def planned_steps(self, expected_rows: int) -> int:
        """Noisy steps of one model, known before training; `expected_rows` where `nominal_rows` is open."""
        return self._recipe(self.nominal_rows or expected_rows).steps(expected_rows)

    def planned_claim(self, expected_rows: int) -> Claim:
        """The claim that a full run will support; `expected_rows` stands in for a `nominal_rows` still open."""
        recipe = self._recipe(self.nominal_rows or expected_rows)
        return self._claim(recipe, recipe.steps(0))

    def _public_rows(self) -> int:
        if self.nominal_rows is None:
            raise ConfigError(
                "dp-sgd needs nominal_rows, a public number of rows from which sampling rate, steps and noise follow: "
                "the number of rows really used is private"
            )
        return self.nominal_rows

    def _recipe(self, nominal_rows: int) -> Recipe:
        plain = Recipe(
            model=ModelSpec(self.model, tuple(self.hidden), tuple(self.channels), self.dropout, self.transformer),
            optimizer=OptimizerSpec(self.optimizer, self.learning_rate, self.momentum, self.weight_decay),
            epochs=self.epochs,
            batch_size=self.batch_size,
            sampling="poisson",
            nominal_rows=nominal_rows,
            dtype=self.dtype,
        )
        noise = self.noise_multiplier
        if noise is None:
            assert self.epsilon is not None
            noise = calibrated_noise(self.epsilon, self.delta, plain.sample_rate(0), plain.steps(0))
        return replace(plain, protection=Protection(noise, self.max_grad_norm, self.clipping))

    def _claim(self, recipe: Recipe, steps: int) -> Claim:
        assert recipe.protection is not None
        claim = sampled_claim(recipe.protection.noise_multiplier, recipe.sample_rate(0), steps, self.delta)
        return replace(claim, assumes=(*claim.assumes, *assumed_public(self.transformer)))

    def _trained(self, fitted: Fitted, device: str) -> Trained:
        recipe = self.recipe()
        assert recipe.protection is not None
        fitted.finite()
        metrics = {**fitted.metrics, "noise_multiplier": recipe.protection.noise_multiplier}
        claim = self._claim(recipe, fitted.steps)
        return Trained(fitted.module, TorchTarget(fitted.module, device), claim, fitted.steps, metrics)
