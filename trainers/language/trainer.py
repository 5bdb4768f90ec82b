"""The trainers `language` and `dp-language`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Literal

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Claim, Rows, Trained
from ..promise import ASSUMES, calibrated_noise, check_promise, sampled_claim
from ..recipe import Clipping, Protection, Recipe
from .fields import LanguageFields
from .fitting import Tuning, fit_language

PUBLIC_TEXT = "the text named by `public`, the tokenizer and the pretrained model were made without the private rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Language(LanguageFields):
    """A language model of byte rows (`data.text_encoding = "bytes"`), fine-tuned by SGD or Adam; no privacy claim.

    `architecture` "gpt2", "llama" or "bert" with `layers`, `width`, `heads` gives a fresh model; `pretrained` (a
    folder, or a Hub name with a `revision`) takes another's. `objective` "causal" predicts the next token, "masked"
    (for "bert") hidden ones. One row is one record, cut at `length` tokens; its loss is its summed token loss over a
    constant. `vocabulary` None reads bytes; a number fits a byte-level BPE of that size on the `public` text: a
    registered data set or a text file. With `public_epochs` above 0 the model is trained on it first, in the same way
    for every audit (`public_seed`). `lora_rank` above 0 trains low-rank adapters and nothing else. `scrub`,
    `randomise` and `deduplicate` change the private text before training. `sampling` "shuffle" passes over the rows in
    random order; "poisson" is the data flow of `dp-language`.
    """

    name: ClassVar[str] = "language"
    version: ClassVar[str] = "2"

    sampling: Literal["shuffle", "poisson"] = "shuffle"

    def __post_init__(self) -> None:
        self.check_fields()
        self.recipe()

    def recipe(self) -> Recipe:
        """Sampling, steps and optimizer of fine-tuning."""
        return self.schedule(self.sampling)

    def tuning(self) -> Tuning:
        """The whole fine-tuning."""
        return Tuning(self.beginning(), self.recipe(), self.adapters(), self.defences())

    def planned_steps(self, expected_rows: int) -> int:
        """Optimizer steps of fine-tuning."""
        return self.recipe().steps(expected_rows)

    def fit(self, data: Rows, rows: BoolArray, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        """As in `Trainer`."""
        tuned = fit_language(self.tuning(), data, rows, seeds=seeds, device=device, checkpoint=checkpoint)
        return Trained(tuned.target.model, tuned.target, None, tuned.steps, tuned.metrics)


@dataclass(frozen=True, slots=True, kw_only=True)
class DpLanguage(LanguageFields):
    """`language` under DP-SGD: each record's gradient clipped, Gaussian noise, Poisson sampling, by Opacus.

    Give `epsilon` and `delta`, or `noise_multiplier` and `delta`. The claim covers fine-tuning, one row a record;
    public text and pretrained weights lie outside it. `nominal_rows` is public and required, as in `dp-sgd`.
    `clipping` "hooks" holds per-record gradients (Opacus), "ghost" computes their norms without them: less memory, less
    time, the same model to rounding. Scrubbing and randomising look at one row at a time and leave the claim as it is;
    `deduplicate` is refused.
    """

    name: ClassVar[str] = "dp-language"
    version: ClassVar[str] = "2"

    epsilon: float | None = None
    delta: float = 1e-5
    noise_multiplier: float | None = None
    max_grad_norm: float = 1.0
    clipping: Clipping = "hooks"
    batch_size: int = 128
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_promise(self, plain="language")
        if self.clipping not in ("hooks", "ghost"):
            raise ConfigError(f"clipping must be 'hooks' or 'ghost', got {self.clipping!r}")
        if self.deduplicate:
            raise ConfigError(
                f"{self.name}: deduplicate = true voids the claim: whether a row is kept depends on other private "
                "rows; leave it out, or deduplicate with trainer 'language'"
            )
        self.check_fields()
        self.unprotected()

    def unprotected(self) -> Language:
        """The same model, sampling, steps and divisor without clipping and noise."""
        shared = {f.name: getattr(self, f.name) for f in fields(LanguageFields)}
        return Language(**shared, sampling="poisson")

    def planned_steps(self, expected_rows: int) -> int:
        """Noisy steps of one model."""
        return self.private_recipe(self.nominal_rows or expected_rows).steps(0)

    def planned_claim(self, expected_rows: int) -> Claim:
        """As in `PrivateTrainer`; `expected_rows` stands in for a `nominal_rows` still open."""
        return self._claim(self.private_recipe(self.nominal_rows or expected_rows))

    def tuning(self) -> Tuning:
        """The whole fine-tuning. Raises `ConfigError` without `nominal_rows`."""
        if self.nominal_rows is None:
            raise ConfigError(f"{self.name} needs nominal_rows, a public number of rows: the true number is private")
        return Tuning(self.beginning(), self.private_recipe(self.nominal_rows), self.adapters(), self.defences())

    def fit(self, data: Rows, rows: BoolArray, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        """As in `Trainer`. Raises `ConfigError` without `nominal_rows`."""
        tuning = self.tuning()
        tuned = fit_language(tuning, data, rows, seeds=seeds, device=device, checkpoint=checkpoint)
        assert tuning.recipe.protection is not None
        metrics = {**tuned.metrics, "noise_multiplier": tuning.recipe.protection.noise_multiplier}
        return Trained(tuned.target.model, tuned.target, self._claim(tuning.recipe), tuned.steps, metrics)

    def private_recipe(self, nominal_rows: int) -> Recipe:
        """The twin's recipe with clipping and noise, for a public number of rows."""
        plain = replace(self.schedule("poisson"), nominal_rows=nominal_rows)
        noise = self.noise_multiplier
        if noise is None:
            assert self.epsilon is not None
            noise = calibrated_noise(self.epsilon, self.delta, plain.sample_rate(0), plain.steps(0))
        return replace(plain, protection=Protection(noise, self.max_grad_norm, self.clipping))

    def _claim(self, recipe: Recipe) -> Claim:
        assert recipe.protection is not None
        claim = sampled_claim(recipe.protection.noise_multiplier, recipe.sample_rate(0), recipe.steps(0), self.delta)
        return replace(claim, assumes=(*ASSUMES, PUBLIC_TEXT))
