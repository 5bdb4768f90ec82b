"""The trainers `language` and `dp-language`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Literal

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Claim, Rows, Trained
from ..dpsgd import ASSUMES, _calibrated, _claim
from ..persistence import plain_spec
from ..recipe import OptimizerSpec, Protection, Recipe
from .fitting import (
    Beginning,
    fit_language,
    language_perplexities,
    language_recipe,
    load_language,
    private_recipe,
    save_language,
)
from .model import Size

PUBLIC_TEXT = "the text named by `public`, the tokenizer and the pretrained model were made without the private rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """A GPT-2 trained to predict the next token of byte rows (`data.text_encoding = "bytes"`), by SGD or Adam.

    `layers`, `width`, `heads` give a fresh model; rows are cut at `length` tokens; `pretrained` (a folder, or a Hub
    name with a `revision`) takes another's. `vocabulary` None reads bytes; a number fits a byte-level BPE of that size
    on the `public` text. `public` is a registered text data set or a text file: with `public_epochs` above 0 the model
    is trained on it first, in the same way for every audit (`public_seed`). One row is one record; each record's loss
    is its summed token loss over the constant row length.
    """

    name: ClassVar[str] = "language"
    version: ClassVar[str] = "1"

    layers: int = 2
    width: int = 128
    heads: int = 4
    length: int = 128
    vocabulary: int | None = None
    public: str | None = None
    public_epochs: float = 0.0
    public_batch_size: int = 32
    public_learning_rate: float = 2e-3
    public_seed: int = 0
    pretrained: str | None = None
    revision: str | None = None
    epochs: float = 8
    batch_size: int = 32
    learning_rate: float = 2e-3
    momentum: float = 0.0
    weight_decay: float = 0.0
    optimizer: Literal["sgd", "adam"] = "adam"
    nominal_rows: int | None = None
    sampling: Literal["shuffle", "poisson"] = "shuffle"

    def __post_init__(self) -> None:
        Size(self.layers, self.width, self.heads)
        for key in ("length", "public_batch_size"):
            if getattr(self, key) < 2:
                raise ConfigError(f"{self.name}: {key} must be >= 2, got {getattr(self, key)}")
        if self.public is None and (self.vocabulary is not None or self.public_epochs > 0):
            key = "vocabulary" if self.vocabulary is not None else "public_epochs"
            raise ConfigError(
                f"{self.name}: {key} needs public, the text to fit on: a tokenizer or model fitted on private rows "
                "lies outside every claim"
            )
        if self.pretrained is not None and self.vocabulary is not None:
            raise ConfigError(f"{self.name}: pretrained brings its own tokenizer; leave out vocabulary")
        if not self.public_epochs >= 0:
            raise ConfigError(f"{self.name}: public_epochs must be >= 0, got {self.public_epochs}")
        self.recipe()

    def recipe(self) -> Recipe:
        """Sampling, steps and optimizer of fine-tuning."""
        optimizer = OptimizerSpec(self.optimizer, self.learning_rate, self.momentum, self.weight_decay)
        return language_recipe(optimizer, self.epochs, self.batch_size, self.sampling, self.nominal_rows)

    def beginning(self) -> Beginning:
        """Everything before fine-tuning."""
        return Beginning(
            Size(self.layers, self.width, self.heads),
            self.length,
            self.vocabulary,
            self.public,
            self.public_epochs,
            self.public_batch_size,
            self.public_learning_rate,
            self.public_seed,
            self.pretrained,
            self.revision,
        )

    def planned_steps(self, expected_rows: int) -> int:
        """Optimizer steps of fine-tuning."""
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
        """As in `Trainer`."""
        target, steps, metrics = fit_language(self.beginning(), self.recipe(), data, rows, seeds=seeds, device=device)
        return Trained(target.model, target, None, steps, metrics)

    def save(self, trained: Trained, folder: Path) -> None:
        """As in `Trainer`."""
        save_language(trained, folder, spec=plain_spec(self))

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:  # noqa: ARG002
        """As in `Trainer`."""
        return load_language(folder, device=device)

    def perplexities(
        self, trained: Trained, data: Rows, rows: BoolArray, held_out: Rows, *, device: str
    ) -> Mapping[str, float]:
        """As in `TextTrainer`."""
        return language_perplexities(self.beginning(), trained, data, rows, held_out, device=device)


@dataclass(frozen=True, slots=True, kw_only=True)
class DpLanguage:
    """`language` under DP-SGD: each record's gradient clipped, Gaussian noise, Poisson sampling, by Opacus.

    Give `epsilon` and `delta`, or `noise_multiplier` and `delta`. The claim covers fine-tuning, one row a record;
    public text and pretrained weights lie outside it. `nominal_rows` is public and required, as in `dp-sgd`.
    """

    name: ClassVar[str] = "dp-language"
    version: ClassVar[str] = "1"

    layers: int = 2
    width: int = 128
    heads: int = 4
    length: int = 128
    vocabulary: int | None = None
    public: str | None = None
    public_epochs: float = 0.0
    public_batch_size: int = 32
    public_learning_rate: float = 2e-3
    public_seed: int = 0
    pretrained: str | None = None
    revision: str | None = None
    epsilon: float | None = None
    delta: float = 1e-5
    noise_multiplier: float | None = None
    max_grad_norm: float = 1.0
    epochs: float = 8
    batch_size: int = 128
    learning_rate: float = 1e-3
    momentum: float = 0.0
    weight_decay: float = 0.0
    optimizer: Literal["sgd", "adam"] = "adam"
    nominal_rows: int | None = None

    def __post_init__(self) -> None:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ConfigError(
                f"{self.name} needs either epsilon or noise_multiplier, got epsilon {self.epsilon} and "
                f"noise_multiplier {self.noise_multiplier}"
            )
        for key in ("epsilon", "noise_multiplier", "max_grad_norm"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise ConfigError(f"{key} must be > 0, got {value}; use trainer 'language' to train without protection")
        if not 0 < self.delta < 1:
            raise ConfigError(f"delta must lie in (0, 1), got {self.delta}")
        self.unprotected()

    def unprotected(self) -> Language:
        """The same model, sampling, steps and divisor without clipping and noise."""
        shared = {f.name: getattr(self, f.name) for f in fields(Language) if hasattr(self, f.name)}
        return Language(**shared, sampling="poisson")

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
        recipe, beginning = self._recipe(self.nominal_rows), self.unprotected().beginning()
        target, steps, metrics = fit_language(beginning, recipe, data, rows, seeds=seeds, device=device)
        assert recipe.protection is not None
        metrics["noise_multiplier"] = recipe.protection.noise_multiplier
        return Trained(target.model, target, self._claim(recipe), steps, metrics)

    def save(self, trained: Trained, folder: Path) -> None:
        """As in `Trainer`."""
        save_language(trained, folder, spec=plain_spec(self))

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:  # noqa: ARG002
        """As in `Trainer`."""
        return load_language(folder, device=device)

    def perplexities(
        self, trained: Trained, data: Rows, rows: BoolArray, held_out: Rows, *, device: str
    ) -> Mapping[str, float]:
        """As in `TextTrainer`."""
        return self.unprotected().perplexities(trained, data, rows, held_out, device=device)

    def _recipe(self, nominal_rows: int) -> Recipe:
        plain = replace(self.unprotected().recipe(), nominal_rows=nominal_rows)
        noise = self.noise_multiplier
        if noise is None:
            assert self.epsilon is not None
            noise = _calibrated(self.epsilon, self.delta, plain.sample_rate(0), plain.steps(0))
        return private_recipe(plain, Protection(noise, self.max_grad_norm))

    def _claim(self, recipe: Recipe) -> Claim:
        assert recipe.protection is not None
        claim = _claim(recipe.protection.noise_multiplier, recipe.sample_rate(0), recipe.steps(0), self.delta)
        return replace(claim, assumes=(*ASSUMES, PUBLIC_TEXT))
