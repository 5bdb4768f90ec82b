"""DP-SGD by Opacus's `PrivacyEngine`, right as it stands, made of parts that an entry replaces one at a time."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from opacus import PrivacyEngine
from opacus.accountants import create_accountant
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, WeightedRandomSampler

from ...attacks.canary.gradient import LogLikelihoodRatio
from ...audit.seeds import Seeds
from ...audit.types import Adjacency, BoolArray, Claim, Mechanism
from ...trainers.whitebox import CanaryDataset, CanaryLoss, CanaryModel, GradientCanaries, Recorder
from .optimizers import Guarded
from .table import ReadLog, Table, random_rows, random_table

CLIP, DELTA, WIDTH, LEARNING_RATE = 1.0, 1e-6, 4, 0.05
VALIDATION_ROWS = 20
Sampling = Literal["poisson", "shuffle", "weighted"]


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a run is. `batch` over all rows is the sampling rate; `guesses` are fixed for the audit."""

    rows: int
    canaries: int
    batch: int
    epochs: int
    guesses: int
    noise_multiplier: float = 1.0

    def statistic(self, rate: float) -> LogLikelihoodRatio:
        """The score of a canary: a likelihood ratio at half the claimed noise, the mechanism to be ruled out.

        At the claimed noise itself the audit would be best at seeing what is allowed: a run with half the noise then
        certifies 1.7 of a claimed 2.13, and passes.
        """
        return LogLikelihoodRatio(rate, self.noise_multiplier / 2)


SMALL = Scale(rows=80, canaries=20, batch=10, epochs=2, guesses=20)
"""For looking at the objects: 100 rows, 20 steps."""
FULL = Scale(rows=1000, canaries=5000, batch=60, epochs=10, guesses=500)
"""For the audit: rate 0.01, 1000 steps; with delta 1e-6 even half the noise shows (theory note, section 8)."""


@dataclass
class Fit:
    """A run in the making: the user's objects, and what was watched on the way.

    The claim is made for the records of `training` and `holdout`; those of `public` belong to nobody.
    """

    engine: PrivacyEngine
    module: Any
    model: CanaryModel
    optimizer: Any
    loader: Any
    inside: BoolArray
    training: Table
    holdout: Table
    public: Table
    best: tuple[int, float] | None = None
    inner_steps: int = 0
    noise_states: list[str] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    scores: Any = None

    @property
    def log(self) -> ReadLog:
        """Who read what, of all three tables."""
        return self.training.log


def private_batch(fit: Fit, features: Tensor, labels: Tensor, slots: Tensor) -> None:
    """One private step."""
    fit.optimizer.zero_grad()
    if len(labels):
        loss: Any = CanaryLoss()(fit.module(features, slots), labels)
        loss.backward()
    else:
        for p in fit.optimizer.params:
            p.grad_sample = p.new_zeros((0, *p.shape))
    fit.optimizer.step()


def nothing(fit: Fit) -> None:
    """What is done by default before training and after an epoch."""


def logistic() -> nn.Module:
    """The base model."""
    return nn.Linear(WIDTH, 2)


@dataclass(frozen=True, slots=True)
class OpacusTrainer:
    """The parts. `optimizer` None keeps what `make_private` built, its divisor int(n q) included; else that class
    takes its place with the public divisor. `copies` is the number of rows made of one record. `validate` off is a
    user who builds the wrapped module by hand. `prepare` runs before training, `after_epoch` after each epoch."""

    optimizer: type[DPOptimizer] | None = Guarded
    base: Callable[[], nn.Module] = logistic
    validate: bool = True
    sampling: Sampling = "poisson"
    accountant: str = "prv"
    adjacency: Adjacency = Adjacency.ADD_REMOVE
    copies: int = 1
    step: Callable[[Fit, Tensor, Tensor, Tensor], None] = private_batch
    prepare: Callable[[Fit], None] = nothing
    after_epoch: Callable[[Fit], None] = nothing

    def build(self, scale: Scale, *, seeds: Seeds, fewer_rows: int = 0) -> Fit:
        """Everything before the first step, without some of the rows if told to."""
        canaries = GradientCanaries(scale.canaries)
        inside = canaries.coins(seeds=seeds.at("coins")).inside[0]
        rows = scale.rows - fewer_rows
        training = self._training(rows, inside, seeds)
        with seeds.at("build").torch_scope():
            base = self.base()
            model = CanaryModel(base, canaries, max_grad_norm=CLIP, seeds=seeds.at("canaries"), device="cpu")
            return self._make_private(model, training, inside, scale, seeds)

    def fit(self, scale: Scale, *, seeds: Seeds) -> Fit:
        """A whole run, watched."""
        fit = self.build(scale, seeds=seeds)
        with seeds.at("train").torch_scope(), watching(fit):
            recorder = Recorder(
                fit.model,
                fit.optimizer,
                statistics=[scale.statistic(scale.batch / len(fit.training))],
                unit=CLIP / scale.batch,
            )
            with fit.log.reading_for("preprocessing"):
                self.prepare(fit)
            for _ in range(scale.epochs):
                for features, labels, slots in fit.loader:
                    self.step(fit, features, labels, slots)
                with fit.log.reading_for("selection"):
                    self.after_epoch(fit)
            fit.scores = recorder.transcript().scores["llr"]
        return fit

    def claim(self, fit: Fit) -> Claim:
        """What the user reports: the engine's epsilon, with the mechanism as the accountant saw it."""
        history = [(float(n), float(q), int(t)) for n, q, t in fit.engine.accountant.history]
        return Claim(
            reported_epsilon(fit.engine.accountant.mechanism(), tuple(history)),
            DELTA,
            adjacency=self.adjacency,
            mechanism=Mechanism("dp-sgd", _parameters(history)),
            accountant=fit.engine.accountant.mechanism(),
        )

    def _training(self, rows: int, inside: BoolArray, seeds: Seeds) -> Table:
        """Rows and canaries; with `copies`, that many rows of every canary."""
        data = CanaryDataset(random_rows(rows, WIDTH, seeds=seeds.at("data")), inside)
        names = [f"row-{i}" for i in range(rows)] + [f"canary-{i}" for i in range(len(inside))]
        order = [*range(rows), *np.repeat(np.arange(rows, len(names)), self.copies).tolist()]
        return Table(Subset(data, order), tuple(names[i] for i in order), ReadLog())

    def _make_private(self, model: CanaryModel, training: Table, inside: BoolArray, scale: Scale, seeds: Seeds) -> Fit:
        engine = _engine(self.accountant)
        if not self.validate:
            engine.validate = lambda **_: None
        shared = seeds.at("sampling").torch_generator()
        weights = WeightedRandomSampler([1.0] * len(training), len(training), generator=shared)
        sampler = {"sampler": weights} if self.sampling == "weighted" else {"shuffle": self.sampling == "shuffle"}
        noise = seeds.at("noise").torch_generator()
        module, optimizer, loader = engine.make_private(
            module=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=LEARNING_RATE),
            data_loader=DataLoader(training, batch_size=scale.batch, generator=shared, **sampler),
            noise_multiplier=scale.noise_multiplier,
            max_grad_norm=CLIP,
            poisson_sampling=self.sampling == "poisson",
            noise_generator=noise,
        )
        if self.optimizer is not None:
            optimizer = self.optimizer(
                optimizer.original_optimizer,
                noise_multiplier=scale.noise_multiplier,
                max_grad_norm=CLIP,
                expected_batch_size=scale.batch,
                generator=noise,
            )
            optimizer.attach_step_hook(engine.accountant.get_optimizer_hook_fn(sample_rate=1 / len(loader)))
        holdout, public = (
            random_table(name, VALIDATION_ROWS, WIDTH, training.log, seeds=seeds.at(name))
            for name in ("holdout", "public")
        )
        return Fit(engine, module, model, optimizer, loader, inside, training, holdout, public)


@contextlib.contextmanager
def watching(fit: Fit) -> Iterator[None]:
    """Count inner steps, and note clipping norm and the noise generator's state whenever noise is asked for."""
    add_noise = fit.optimizer.add_noise

    def seen() -> None:
        state = fit.optimizer.generator.get_state().numpy().tobytes()
        fit.noise_states.append(hashlib.sha256(state).hexdigest()[:16])
        fit.norms.append(float(fit.optimizer.max_grad_norm))
        add_noise()

    def stepped(*_: Any) -> None:
        fit.inner_steps += 1

    fit.optimizer.add_noise = seen
    hook = fit.optimizer.original_optimizer.register_step_pre_hook(stepped)
    try:
        yield
    finally:
        hook.remove()
        fit.optimizer.add_noise = add_noise


@lru_cache(maxsize=64)
def reported_epsilon(mechanism: str, history: tuple[tuple[float, float, int], ...]) -> float:
    """Epsilon at `DELTA` by Opacus's own accountant."""
    accountant = create_accountant(mechanism)
    accountant.history = list(history)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta=DELTA))


def _parameters(history: list[tuple[float, float, int]]) -> tuple[tuple[str, float], ...]:
    noise, rate, _ = history[-1]
    return (
        ("noise_multiplier", noise),
        ("sample_rate", rate),
        ("steps", float(sum(steps for _, _, steps in history))),
    )


def _engine(accountant: str) -> PrivacyEngine:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PrivacyEngine(accountant=accountant)
