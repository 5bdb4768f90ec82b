"""The trainers `autoencoder` and `dp-autoencoder`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Claim, Rows, Trained
from ..models import ModelSpec
from ..persistence import plain_spec, save_trained
from ..promise import ASSUMES, calibrated_noise, check_promise, sampled_claim
from ..recipe import OptimizerSpec, Protection, Recipe
from .networks import AutoencoderSpec, Kind, build_autoencoder
from .target import AutoencoderTarget
from .training import Corruption, check_features, fit_autoencoder, load_autoencoder

CORRUPTED = "records are corrupted by noise that is drawn without looking at them; labels are not read"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderFields:
    """What both trainers are told. `model` "mlp" (`hidden` widths on either side of the code) or "conv" (images,
    `channels`); `code`: numbers that describe a record. `corruption` "gaussian" adds noise of standard deviation
    `noise`, "masking" sets each number to 0 with chance `noise`; 0 is an ordinary autoencoder. One record's loss is
    half its summed squared error."""

    model: Kind = "mlp"
    hidden: tuple[int, ...] = (128,)
    channels: tuple[int, ...] = (8, 16)
    code: int = 16
    corruption: Literal["gaussian", "masking"] = "gaussian"
    noise: float = 0.2
    epochs: float = 60
    batch_size: int = 64
    learning_rate: float = 2e-3
    momentum: float = 0.0
    weight_decay: float = 0.0
    optimizer: Literal["sgd", "adam"] = "adam"
    nominal_rows: int | None = None

    def spec(self) -> AutoencoderSpec:
        """The network. Raises `ConfigError` for values out of range."""
        return AutoencoderSpec(self.model, tuple(self.hidden), tuple(self.channels), self.code)

    def corrupted(self) -> Corruption:
        """What is done to the network's input. Raises `ConfigError` for values out of range."""
        return Corruption(self.corruption, self.noise)

    def save(self, trained: Trained, folder: Path) -> None:
        """As in `Trainer`."""
        save_trained(trained, folder, spec=plain_spec(self))

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:
        """As in `Trainer`."""
        return load_autoencoder(self.spec(), folder, data, device=device)

    def untrained(self, data: Rows, *, seeds: Seeds, device: str) -> AutoencoderTarget:
        """As in `RepresentationTrainer`: the same network before its first step."""
        check_features(data)
        module = build_autoencoder(self.spec(), data.features.shape[1:], seeds=seeds)
        return AutoencoderTarget(module, data.classes, device)

    def _plain_recipe(self, sampling: Literal["shuffle", "poisson"]) -> Recipe:
        return Recipe(
            model=ModelSpec(),
            optimizer=OptimizerSpec(self.optimizer, self.learning_rate, self.momentum, self.weight_decay),
            epochs=self.epochs,
            batch_size=self.batch_size,
            sampling=sampling,
            nominal_rows=self.nominal_rows,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoencoder(AutoencoderFields):
    """A denoising autoencoder by SGD or Adam (Vincent, Larochelle, Bengio, Manzagol 2008). Makes no privacy claim.

    Labels are not used; the code of a record is the learned feature. `sampling` "poisson" is the data flow of
    `dp-autoencoder`.
    """

    name: ClassVar[str] = "autoencoder"
    version: ClassVar[str] = "1"

    sampling: Literal["shuffle", "poisson"] = "shuffle"

    def __post_init__(self) -> None:
        self.spec()
        self.corrupted()
        self.recipe()

    def recipe(self) -> Recipe:
        """Sampling, steps and optimizer. Raises `ConfigError` for values out of range."""
        return self._plain_recipe(self.sampling)

    def planned_steps(self, expected_rows: int) -> int:
        """Optimizer steps of one model."""
        return self.recipe().steps(expected_rows)

    def fit(
        self,
        data: Rows,
        rows: BoolArray,
        *,
        seeds: Seeds,
        device: str,
        checkpoint: Path | None = None,  # noqa: ARG002
    ) -> Trained:
        """As in `Trainer`; training is short and not resumed."""
        target, steps, metrics = fit_autoencoder(
            self.spec(), self.corrupted(), self.recipe(), data, rows, seeds=seeds, device=device
        )
        return Trained(target.model, target, None, steps, metrics)


@dataclass(frozen=True, slots=True, kw_only=True)
class DpAutoencoder(AutoencoderFields):
    """`autoencoder` under DP-SGD: each record's gradient clipped, Gaussian noise, Poisson sampling, by Opacus.

    Give `epsilon` and `delta`, or `noise_multiplier` and `delta`. `nominal_rows` is public and required, as in
    `dp-sgd`. The claim covers the released encoder and decoder, and whatever is computed from them.
    """

    name: ClassVar[str] = "dp-autoencoder"
    version: ClassVar[str] = "1"

    epsilon: float | None = None
    delta: float = 1e-5
    noise_multiplier: float | None = None
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        check_promise(self, plain="autoencoder")
        self.unprotected()

    def unprotected(self) -> Autoencoder:
        """The same network, sampling, steps and divisor without clipping and noise."""
        shared: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(AutoencoderFields)}
        return Autoencoder(**shared, sampling="poisson")

    def planned_steps(self, expected_rows: int) -> int:
        """Noisy steps of one model."""
        return self._recipe(self.nominal_rows or expected_rows).steps(0)

    def planned_claim(self, expected_rows: int) -> Claim:
        """As in `PrivateTrainer`; `expected_rows` stands in for a `nominal_rows` still open."""
        return self._claim(self._recipe(self.nominal_rows or expected_rows))

    def fit(
        self,
        data: Rows,
        rows: BoolArray,
        *,
        seeds: Seeds,
        device: str,
        checkpoint: Path | None = None,  # noqa: ARG002
    ) -> Trained:
        """As in `Trainer`. Raises `ConfigError` without `nominal_rows`."""
        if self.nominal_rows is None:
            raise ConfigError(f"{self.name} needs nominal_rows, a public number of rows: the true number is private")
        recipe = self._recipe(self.nominal_rows)
        target, steps, metrics = fit_autoencoder(
            self.spec(), self.corrupted(), recipe, data, rows, seeds=seeds, device=device
        )
        assert recipe.protection is not None
        metrics["noise_multiplier"] = recipe.protection.noise_multiplier
        return Trained(target.model, target, self._claim(recipe), steps, metrics)

    def _recipe(self, nominal_rows: int) -> Recipe:
        plain = replace(self.unprotected().recipe(), nominal_rows=nominal_rows)
        noise = self.noise_multiplier
        if noise is None:
            assert self.epsilon is not None
            noise = calibrated_noise(self.epsilon, self.delta, plain.sample_rate(0), plain.steps(0))
        return replace(plain, protection=Protection(noise, self.max_grad_norm))

    def _claim(self, recipe: Recipe) -> Claim:
        assert recipe.protection is not None
        claim = sampled_claim(recipe.protection.noise_multiplier, recipe.sample_rate(0), recipe.steps(0), self.delta)
        return replace(claim, assumes=(*ASSUMES, CORRUPTED))
