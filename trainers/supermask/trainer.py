"""The trainer `supermask`: a mask over frozen weights by straight-through gradients. Makes no privacy claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ...audit.canaries import CanarySet, Witnessed
from ...audit.errors import ConfigError
from ...audit.releases import ReleaseFacts
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Job, Progress, Rows, Trained, silent
from ..models import ModelSpec
from ..recipe import Sampling
from ..release import gaussian_release, per_record_gradients
from ..sampling import Positions, batch_stream
from ..tensors import feature_tensor, label_tensor
from ..transformer import TransformerTable
from ..transformer.files import outside_files
from ..whitebox.hosting import KINDS, canaries_of
from .frozen import Origin
from .module import Head, Masked
from .outputs import Place
from .recipe import MaskRecipe, load_masked, mask_recipe, save_masked, sealed
from .rules import RuleName
from .steps import Steps
from .training import MaskPlan, MaskStack, flatten, write_flat


@dataclass(frozen=True, slots=True)
class MaskFields:
    """What every mask trainer is told of the model.

    `model`, `hidden`, `channels`, `transformer` as in trainer `sgd`; any `module:attr` may be pretrained.
    `rule` is "bernoulli", "top-k" (`keep`: the share kept in each layer), "threshold" or "sign". `frozen` weights are
    "signed-constant" or "kaiming", drawn from `frozen_seed`, which is public and shared by all models, or "model": as
    the architecture makes them, or from the safetensors file `frozen_weights`, times `frozen_gain`, with the last layer
    drawn anew if `fresh_head`. `layers` are name prefixes of the layers
    to mask (empty: all). `head` "trained" trains the last layer instead of masking it. `initial_score`: where scores
    start (None: the rule's own). `place` "outputs" masks what layers put out instead of their weights: one element a
    feature, or a channel and position of a convolution; logits are never masked. The penalties are those of `MaskPlan`.
    """

    model: str = "mlp"
    hidden: tuple[int, ...] = (256, 256)
    channels: tuple[int, ...] = (8, 16)
    rule: RuleName = "bernoulli"
    frozen: Origin = "signed-constant"
    frozen_seed: int = 0
    frozen_weights: str | None = None
    frozen_gain: float = 1.0
    fresh_head: bool = False
    layers: tuple[str, ...] = ()
    keep: float = 0.5
    head: Head = "masked"
    initial_score: float | None = None
    batch_size: int = 32
    learning_rate: float = 0.1
    optimizer: Literal["adam", "sgd"] = "adam"
    place: Place = "weights"
    transformer: TransformerTable | None = None

    def outside(self) -> dict[str, str]:
        """Digests of the files that training starts from; empty where there are none."""
        return outside_files(self.transformer)

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:
        """As in `Trainer`. Raises `IncompatibleError` where the frozen weights are not those of the mask."""
        return load_masked(self.masks(), folder, data, device=device)

    def save(self, trained: Trained, folder: Path) -> None:
        """As in `Trainer`: the packed mask and the digest of the frozen weights."""
        save_masked(trained, folder, trainer=self)

    def fresh_model(self, data: Rows, *, seeds: Seeds, device: str) -> Masked:
        """As in `ReleasesUpdates`, with the draws of one step's mask, which are public: a thresholded mask of equal
        scores is empty, and nothing passes through it."""
        import torch

        module = self.masks().build(data, seeds=seeds, device=device)
        if module.rule.samples:
            drawn = torch.rand(module.uniform.shape, generator=seeds.at("first mask").torch_generator())
            module.uniform.copy_(drawn)
        return module

    def masks(self) -> MaskRecipe:
        """This trainer's masked model. Raises `ConfigError` for values out of range."""
        return self._masks()

    def _masks(self, **penalties: Any) -> MaskRecipe:
        if not self.batch_size > 0:
            raise ConfigError(f"batch_size must be > 0, got {self.batch_size}")
        return mask_recipe(
            ModelSpec(self.model, tuple(self.hidden), tuple(self.channels), transformer=self.transformer),
            rule=self.rule,
            frozen=self.frozen,
            frozen_seed=self.frozen_seed,
            frozen_weights=self.frozen_weights,
            frozen_gain=self.frozen_gain,
            fresh_head=self.fresh_head,
            layers=tuple(self.layers),
            keep=self.keep,
            head=self.head,
            initial=self.initial_score,
            plan=MaskPlan(self.learning_rate, self.optimizer, **penalties),
            place=self.place,
        )


@dataclass(frozen=True, slots=True)
class Supermask(MaskFields):
    """Scores by Adam or SGD on cross-entropy, with the gradient passed straight through the mask.

    `sampling` "shuffle" passes over the rows in random order; "poisson" is the data flow of `dp-supermask`.
    `nominal_rows` fixes the number of steps; without it each model goes by its own rows.
    """

    name: ClassVar[str] = "supermask"
    version: ClassVar[str] = "1"

    epochs: float = 30
    entropy_penalty: float = 0.0
    sparsity_penalty: float = 0.0
    sparsity_target: float | None = None
    nominal_rows: int | None = None
    sampling: Sampling = "shuffle"

    def __post_init__(self) -> None:
        if not self.epochs > 0:
            raise ConfigError(f"epochs must be > 0, got {self.epochs}")
        if self.nominal_rows is not None and self.nominal_rows < self.batch_size:
            raise ConfigError(f"nominal_rows must be at least batch_size {self.batch_size}, got {self.nominal_rows}")
        if self.sampling not in ("shuffle", "poisson"):
            raise ConfigError(f"sampling must be 'shuffle' or 'poisson', got {self.sampling!r}")
        self.masks()

    def masks(self) -> MaskRecipe:
        """As in `MaskFields`, with the penalties."""
        return self._masks(
            entropy_penalty=self.entropy_penalty,
            sparsity_penalty=self.sparsity_penalty,
            sparsity_target=self.sparsity_target,
        )

    def planned_steps(self, expected_rows: int) -> int:
        """Optimizer steps of one model, known before training; `expected_rows` where `nominal_rows` is open."""
        return max(1, round(self.epochs * (self.nominal_rows or expected_rows) / self.batch_size))

    def hosts(self) -> tuple[str, ...]:
        """As in `CanaryHost`; canaries need the data flow of `dp-supermask`, whose twin this is."""
        return tuple(KINDS) if self.sampling == "poisson" else ()

    def planned_canary_claim(self, expected_rows: int, canaries: CanarySet) -> None:
        """As in `CanaryHost`: nothing is claimed."""
        del expected_rows
        canaries_of(canaries)

    def fit_with_canaries(
        self,
        data: Rows,
        rows: BoolArray,
        canaries: CanarySet,
        *,
        seeds: Seeds,
        device: str,
        checkpoint: Path | None = None,
        progress: Progress = silent,
    ) -> Witnessed:
        """As in `CanaryHost`: the observer sees every sum of score gradients."""
        from .hosting import host_score_canaries

        del checkpoint
        nominal = self.nominal_rows or len(rows) // 2
        steps = Steps(min(1.0, self.batch_size / nominal), self.planned_steps(nominal), self.batch_size)
        return host_score_canaries(
            self.masks(), steps, None, data, rows, canaries, None, seeds=seeds, device=device, progress=progress
        )

    def release_facts(self, delta: float) -> ReleaseFacts:
        """As in `ReleasesUpdates`: nothing is clipped or noised."""
        return gaussian_release(None, delta)

    def updates(self, module: Any, features: Any, labels: Any) -> Any:
        """As in `ReleasesUpdates`: gradients of the scores, and of a trained head."""
        return per_record_gradients(module, features, labels)

    def fit(self, data: Rows, rows: BoolArray, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        """As in `Trainer`; training is short and not resumed."""
        del checkpoint
        return self._together(data, [Job(rows, seeds)], device)[0]

    def fit_many(
        self,
        data: Rows,
        jobs: Sequence[Job],
        *,
        device: str,
        checkpoint: Path | None = None,
        progress: Progress = silent,
    ) -> list[Trained]:
        """As in `StackedTrainer`: together where the architecture is ours, else one after another."""
        del checkpoint
        if ":" not in self.model and self.model != "transformer":
            out = self._together(data, jobs, device)
        else:
            out = [self._together(data, [job], device)[0] for job in jobs]
        steps = sum(each.steps for each in out)
        progress(steps, steps)
        return out

    def _together(self, data: Rows, jobs: Sequence[Job], device: str) -> list[Trained]:
        import torch

        recipe = self.masks()
        modules = [recipe.build(data, seeds=job.seeds, device=device) for job in jobs]
        features = feature_tensor(data.features, dtype=torch.float32, device=device)
        stack = MaskStack(modules[0], features, label_tensor(data.labels, device=device), recipe.plan)
        batches = [self._batches(job) for job in jobs]
        generators = [job.seeds.at("masks").torch_generator(device) for job in jobs]
        flat = stack.train(torch.stack([flatten(m) for m in modules]), batches, generators)
        out = []
        for module, values, job, steps in zip(modules, flat, jobs, batches, strict=True):
            write_flat(module, values)
            out.append(sealed(module, data, job.inside, claim=None, steps=len(steps), device=device))
        return out

    def _batches(self, job: Job) -> list[Positions]:
        rows = np.flatnonzero(job.inside).astype(np.int64)
        if not len(rows):
            raise ConfigError("the trainer was given no training rows")
        steps = self.planned_steps(len(rows))
        rate = min(1.0, self.batch_size / (self.nominal_rows or len(rows)))
        stream = batch_stream(
            rows, sampling=self.sampling, batch_size=self.batch_size, sample_rate=rate, seeds=job.seeds
        )
        return stream.take(steps).each()
