"""The training loop of a stack: the steps of `single`, for all models of a chunk at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...audit.types import Job
from ..checkpoint import Checkpoint, State
from ..recipe import Course, Recipe
from ..sampling import BatchStream, batch_stream, skip
from ..single import Fitted, Patience
from .blocks import Block, block_steps, next_block, padded_rows
from .engine import Engine, StackedBatch
from .flat import Flat
from .optimizer import StackedOptimizer

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor, nn

EVALUATED_CELLS = 1 << 13
"""Rows evaluated at a time, all models together."""


@dataclass(slots=True)
class Stack:
    """One chunk of models in training. `active` are the models still training; everything stacked follows its order."""

    recipe: Recipe
    jobs: Sequence[Job]
    courses: list[Course]
    engine: Engine
    optimizer: StackedOptimizer
    labels: Tensor
    device: str
    best: list[Tensor]
    active: NDArray[np.int64]
    steps: NDArray[np.int64]
    ends: NDArray[np.int64]
    patience: list[Patience]
    noise: list[torch.Generator]
    dropout: list[torch.Generator]
    done: int = 0
    drawn: Flat | None = None
    rows: list[list[Tensor]] = field(default_factory=list)
    streams: dict[int, BatchStream] = field(default_factory=dict)

    @classmethod
    def start(cls, recipe: Recipe, jobs: Sequence[Job], courses: list[Course], engine: Engine, labels: Tensor) -> Stack:
        """All models at step 0."""
        device = str(labels.device)
        stop = recipe.early_stopping
        optimizer = StackedOptimizer(recipe.optimizer, Flat.of(engine.parameters))
        engine.parameters = optimizer.parameters.parts
        return cls(
            recipe=recipe,
            jobs=jobs,
            courses=courses,
            engine=engine,
            optimizer=optimizer,
            labels=labels,
            device=device,
            best=[p.clone() for p in engine.parameters],
            active=np.arange(len(jobs)),
            steps=np.zeros(len(jobs), np.int64),
            ends=np.array([course.steps for course in courses]),
            patience=[] if stop is None else [Patience(stop) for _ in jobs],
            noise=[] if recipe.protection is None else _generators(jobs, "noise", device),
            dropout=_generators(jobs, "dropout", device),
        )

    def train(self, store: Checkpoint, progress: Callable[[int], None]) -> None:
        """Until every model has finished; `progress` is told the model-steps done after each block."""
        while len(self.active):
            block = self._next_block()
            for number in range(len(block.sizes)):
                self._step(block, number)
                store.count(len(self.active))
                self._retire(block)
                if store.due():
                    store.write(self.state())
                if not len(self.active):
                    break
            progress(self.model_steps())
        store.write(self.state())

    def model_steps(self) -> int:
        """Optimizer steps done, all models together."""
        return int(self.steps.sum()) + self.done * len(self.active)

    def results(self, modules: Sequence[nn.Module]) -> list[Fitted]:
        """The trained weights put into `modules`, one per job, with their fit on their own training rows."""
        self.engine.parameters = self.best
        loss, accuracy = self._quality([c.training for c in self.courses])
        fitted = []
        for model, (module, steps) in enumerate(zip(modules, self.steps, strict=True)):
            for p, stacked in zip(module.parameters(), self.best, strict=True):
                p.data = stacked[model].clone()
            metrics = {"train_loss": float(loss[model]), "train_accuracy": float(accuracy[model])}
            fitted.append(Fitted(module.eval(), int(steps), metrics))
        return fitted

    def _next_block(self) -> Block:
        left = int(self.ends[self.active].max()) - self.done
        steps = min(block_steps(len(self.active), self.recipe.batch_size), left)
        if not self.streams:
            self.streams = {int(model): self._stream(model) for model in self.active}
        streams = [self.streams[model] for model in self.active]
        return next_block(streams, steps, dtype=self.best[0].dtype, device=self.device)

    def _stream(self, model: int) -> BatchStream:
        course = self.courses[model]
        stream = batch_stream(
            course.training,
            sampling=self.recipe.sampling,
            batch_size=self.recipe.batch_size,
            sample_rate=course.sample_rate,
            seeds=self.jobs[model].seeds,
        )
        skip(stream, self.done)
        return stream

    def _step(self, block: Block, number: int) -> None:
        positions, weights, sizes = block.step(number)
        flat = positions.reshape(-1)
        labels = self.labels.index_select(0, flat).view(positions.shape)
        batch = StackedBatch(positions, labels, weights, sizes, self.dropout)
        into, beta, scale = self.optimizer.into.parts, self.optimizer.beta, 1 / self.recipe.batch_size
        private = self.recipe.protection
        if private is None:
            self.engine.accumulate(batch, into, beta=beta, scale=scale)
        else:
            self._set_noise(private.noise_multiplier * private.max_grad_norm * scale)
            self.engine.accumulate_clipped(batch, into, max_norm=private.max_grad_norm, beta=1.0, scale=scale)
        self.optimizer.step()
        self.done += 1

    def _set_noise(self, deviation: float) -> None:
        """What clipped gradients are added to: noise, and what momentum keeps. One draw per model and parameter, in the
        order and with the streams of a model trained by itself."""
        into, beta = self.optimizer.into, self.optimizer.beta
        if not self.rows:
            self.drawn = into.zeros() if beta else into
            self.rows = self.drawn.rows()
        for row, generator in zip(self.rows, self.noise, strict=True):
            for part in row:
                part.normal_(0.0, deviation, generator=generator)
        if beta and self.drawn is not None:
            into.memory.mul_(beta).add_(self.drawn.memory)

    def _retire(self, block: Block) -> None:
        """Validate where due, and take finished models out of the stack."""
        stopped = self._validate() if self.patience else np.zeros(len(self.active), np.bool_)
        ended = self.ends[self.active] <= self.done
        if not (stopped | ended).any():
            return
        for slot in np.flatnonzero(stopped | ended).tolist():
            model = self.active[slot]
            self.steps[model] = self.done
            if not self.patience or not np.isfinite(self.patience[model].best):
                self._remember(slot)
        staying = np.flatnonzero(~(stopped | ended))
        self._keep(staying)
        block.keep(staying)

    def _validate(self) -> NDArray[np.bool_]:
        """Validation loss of the models that are due, their best weights kept; which of all should stop."""
        due = np.array([self.done % self.courses[model].validate_every == 0 for model in self.active])
        if due.any():
            loss, _ = self._quality([self.courses[model].validation for model in self.active])
            for slot in np.flatnonzero(due).tolist():
                if self.patience[self.active[slot]].improved(float(loss[slot])):
                    self._remember(slot)
        return np.array([self.patience[model].over for model in self.active])

    def _remember(self, slot: int) -> None:
        for kept, p in zip(self.best, self.engine.parameters, strict=True):
            kept[self.active[slot]] = p[slot]

    def _keep(self, slots: NDArray[np.int64]) -> None:
        import torch

        index = torch.from_numpy(slots).to(self.device)
        self.active = self.active[slots]
        self.optimizer.keep(index)
        self.engine.parameters = self.optimizer.parameters.parts
        self.rows = []
        self.noise = [self.noise[slot] for slot in slots] if self.noise else []
        self.dropout = [self.dropout[slot] for slot in slots]

    def _quality(self, rows: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean loss and accuracy (models,) of every model on its own rows; zero rows give zeros."""
        import torch

        loss, right = np.zeros(len(rows)), np.zeros(len(rows))
        for chosen, real in padded_rows(rows, max(1, EVALUATED_CELLS // len(rows))):
            positions, mask = torch.from_numpy(chosen).to(self.device), torch.from_numpy(real).to(self.device)
            # Classes second to last: reductions along a short contiguous axis are many times slower.
            logits, answers = self.engine.logits(positions).mT.contiguous(), self.labels[positions]
            each = torch.log_softmax(logits, 1).gather(1, answers[:, None])[:, 0]
            loss -= torch.where(mask, each, 0).sum(1).double().cpu().numpy()
            right += (mask & (logits.argmax(1) == answers)).sum(1).cpu().numpy()
        counts = np.maximum(1, [len(r) for r in rows])
        return loss / counts, right / counts

    def state(self) -> State:
        """Everything needed to go on; batch streams are redrawn instead of stored."""
        import torch

        tensors = {f"best.{i}": p for i, p in enumerate(self.best)} | self.optimizer.tensors()
        for name, generators in (("noise", self.noise), ("dropout", self.dropout)):
            if generators:
                tensors[name] = torch.stack([g.get_state() for g in generators])
        values: dict[str, Any] = {
            "done": self.done,
            "active": self.active.tolist(),
            "steps": self.steps.tolist(),
            "patience": [[p.best, p.waited] for p in self.patience],
        }
        return State(tensors, values)

    def restore(self, state: State) -> None:
        """Go on from a state written by `state`."""
        self._keep(np.array(state.values["active"], np.int64))
        self.done = state.values["done"]
        self.steps = np.array(state.values["steps"], np.int64)
        for p, (best, waited) in zip(self.patience, state.values["patience"], strict=True):
            p.best, p.waited = best, waited
        for i in range(len(self.best)):
            self.best[i] = state.tensors[f"best.{i}"].to(self.device)
        self.optimizer.restore(state.tensors, self.done)
        for name, generators in (("noise", self.noise), ("dropout", self.dropout)):
            for generator, stored in zip(generators, state.tensors.get(name, ()), strict=True):
                generator.set_state(stored.clone())  # torch 2.13 crashes on a row of a larger tensor.


def _generators(jobs: Sequence[Job], name: str, device: str) -> list[torch.Generator]:
    return [job.seeds.at(name).torch_generator(device) for job in jobs]
