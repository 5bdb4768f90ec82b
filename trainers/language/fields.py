"""What both language trainers are told, folded into one base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Rows, Trained
from ..data.text import TOKENS
from ..persistence import plain_spec
from ..recipe import OptimizerSpec, Recipe, Sampling
from .adapters import Adapters
from .fitting import Beginning, language_perplexities, language_recipe
from .hosting import HostsTextCanaries
from .model import Size, require_objective
from .storing import load_language, save_language

if TYPE_CHECKING:
    from .defences import Defences, Defended

OPERATIONS_A_SECOND = 3e10
"""What one core does of them in small models, in order of magnitude."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageFields(HostsTextCanaries):
    """What `Language` and `DpLanguage` are both told of the model, the public text, the defences and the schedule."""

    name: ClassVar[str] = "language"

    architecture: Literal["gpt2", "llama", "bert"] = "gpt2"
    objective: Literal["causal", "masked"] = "causal"
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
    lora_rank: int = 0
    lora_alpha: float | None = None
    lora_targets: tuple[str, ...] = ()
    scrub: tuple[str, ...] = ()
    scrub_replacement: Literal["tag", "delete"] = "tag"
    scrub_library: Literal["patterns", "presidio"] = "patterns"
    randomise: float = 0.0
    deduplicate: bool = False
    epochs: float = 8
    batch_size: int = 32
    learning_rate: float = 2e-3
    momentum: float = 0.0
    weight_decay: float = 0.0
    optimizer: Literal["sgd", "adam"] = "adam"
    nominal_rows: int | None = None

    def check_fields(self) -> None:
        """Raise `ConfigError` for the first field that is out of range, `IncompatibleError` for an architecture and an
        objective that do not go together."""
        self.beginning()
        if self.pretrained is None:
            require_objective(self.architecture, self.objective, f"architecture = {self.architecture!r}")
        self.adapters()
        self._check_public()
        if not 0 <= self.randomise <= 1:
            raise ConfigError(f"{self.name}: randomise is a share and must lie in [0, 1], got {self.randomise}")
        if self.is_defended:
            self.defences()

    def _check_public(self) -> None:
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

    def beginning(self) -> Beginning:
        """Everything before fine-tuning."""
        return Beginning(
            Size(self.layers, self.width, self.heads, self.architecture, self.objective),
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

    def adapters(self) -> Adapters | None:
        """The low-rank adapters to train, or None for all weights."""
        if self.lora_rank == 0:
            if self.lora_alpha is not None or self.lora_targets:
                raise ConfigError(f"{self.name}: lora_alpha and lora_targets need lora_rank above 0")
            return None
        alpha = 2.0 * self.lora_rank if self.lora_alpha is None else self.lora_alpha
        return Adapters(self.lora_rank, alpha, tuple(self.lora_targets))

    @property
    def is_defended(self) -> bool:
        """Whether anything is done to the private text before training."""
        return bool(self.scrub) or self.randomise > 0 or self.deduplicate

    def defences(self) -> Defences | None:
        """What is done to the private text before training; None for nothing."""
        if not self.is_defended:
            return None
        from .defences import Defences

        return Defences(tuple(self.scrub), self.scrub_replacement, self.scrub_library, self.randomise, self.deduplicate)

    def defended(self, data: Rows, rows: BoolArray, *, seeds: Seeds) -> Defended | None:
        """What `fit` with these arguments trains on, and what the defences did; None without any."""
        defences = self.defences()
        if defences is None:
            return None
        from .defences import defend

        return defend(data.features, rows, defences, seeds=seeds.at("defences"))

    def schedule(self, sampling: Sampling) -> Recipe:
        """Steps, batches and optimizer of fine-tuning."""
        optimizer = OptimizerSpec(self.optimizer, self.learning_rate, self.momentum, self.weight_decay)
        return language_recipe(optimizer, self.epochs, self.batch_size, sampling, self.nominal_rows)

    def seconds_a_step(self) -> float | None:
        """A rough guess for one core, to price a plan: six operations a weight and token (Kaplan et al. 2020, arXiv
        2001.08361, section 2.1). None for a pretrained model, whose size is not read beforehand."""
        if self.pretrained is not None:
            return None
        weights = 12 * self.layers * self.width**2 + (self.vocabulary or TOKENS) * self.width
        return 6 * weights * self.length * self.batch_size / OPERATIONS_A_SECOND

    def save(self, trained: Trained, folder: Path) -> None:
        """As in `Trainer`. LoRA is merged into the weights: what is stored is the model as it answers."""
        save_language(trained, folder, spec=plain_spec(self))

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:  # noqa: ARG002
        """As in `Trainer`."""
        return load_language(folder, device=device)

    def perplexities(
        self, trained: Trained, data: Rows, rows: BoolArray, held_out: Rows, *, device: str
    ) -> Mapping[str, float]:
        """As in `TextTrainer`."""
        return language_perplexities(self.beginning(), trained, data, rows, held_out, device=device)
