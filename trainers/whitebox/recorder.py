"""What an adversary inside the training loop sees: every released gradient, projected on every canary's direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError, IncompatibleError

if TYPE_CHECKING:
    from .module import CanaryModel


class Statistic(Protocol):
    """Accumulates the projections of successive steps into one score a canary, in memory that does not grow."""

    @property
    def name(self) -> str:
        """Its key in the transcript."""

    def update(self, projections: NDArray[np.float64]) -> None:
        """One step: projections (canaries,) in units of the clipping norm."""

    def scores(self) -> NDArray[np.float64]:
        """(canaries,), higher for more likely inside."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """`steps` releases seen; `scores` by statistic, (canaries,) each; `path` of all projections, float32 npy
    (steps, canaries), if they were asked for."""

    steps: int
    records: tuple[str, ...]
    scores: Mapping[str, NDArray[np.float64]]
    path: Path | None = None

    def projections(self) -> NDArray[np.float32]:
        """The stored projections, memory-mapped. `ConfigError` if none were stored."""
        if self.path is None:
            raise ConfigError("the transcript kept statistics only: give the recorder a `store` to keep projections")
        mapped: NDArray[np.float32] = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return mapped[: self.steps]


class Recorder:
    """Reads the gradient that the optimizer is about to apply, after clipping, noise and division.

    `unit` is what one fully clipped canary adds to that gradient, by the public claim: max_grad_norm over the divisor.
    By default both are read from the Opacus optimizer now, before training; give it where the optimizer under audit may
    not be trusted to say. Statistics are updated step by step; `store` (a file to be, .npy) keeps up to `steps` rows.
    """

    def __init__(
        self,
        model: CanaryModel,
        optimizer: Any,
        *,
        statistics: Sequence[Statistic],
        unit: float | None = None,
        store: Path | None = None,
        steps: int | None = None,
    ) -> None:
        self._model, self._statistics, self._path = model, list(statistics), store
        self._unit = opacus_unit(optimizer) if unit is None else unit
        self.steps = 0
        self._stored: np.memmap[Any, np.dtype[np.float32]] | None = None
        if store is not None:
            if steps is None:
                raise ConfigError("recorder: storing projections needs `steps`, the number of steps to make room for")
            self._stored = np.lib.format.open_memmap(
                store, mode="w+", dtype=np.float32, shape=(steps, model.canaries.count)
            )
        # The hook of the wrapped torch optimizer runs after Opacus has clipped, noised and divided.
        inner = getattr(optimizer, "original_optimizer", optimizer)
        self._hook = inner.register_step_pre_hook(self._see)

    def transcript(self) -> Transcript:
        """What was seen; the recorder stops listening."""
        self._hook.remove()
        if not self.steps:
            raise IncompatibleError("the recorder saw no step: attach it to the optimizer that the loop steps")
        if self._stored is not None:
            self._stored.flush()
        scores = {s.name: s.scores() for s in self._statistics}
        return Transcript(self.steps, self._model.canaries.records, scores, self._path)

    def _see(self, *_: Any) -> None:
        gradient = self._model.head.weight.grad
        if gradient is None:
            raise IncompatibleError("the canary layer has no gradient: train the wrapped model with CanaryLoss")
        seen = self._model.project(gradient).double().cpu().numpy() / self._unit
        if self._stored is not None:
            if self.steps >= len(self._stored):
                raise ConfigError(f"recorder: room for {len(self._stored)} steps, and training goes on: raise `steps`")
            self._stored[self.steps] = seen
        for statistic in self._statistics:
            statistic.update(seen)
        self.steps += 1


def opacus_unit(optimizer: Any) -> float:
    """max_grad_norm over the divisor of an Opacus optimizer. `IncompatibleError` where there is no one such number."""
    norm = getattr(optimizer, "max_grad_norm", None)
    if not isinstance(norm, int | float):
        raise IncompatibleError(
            f"{type(optimizer).__name__} has no single max_grad_norm: use flat clipping, or give the recorder `unit`"
        )
    if optimizer.loss_reduction == "sum":
        return float(norm)
    return float(norm) / float(optimizer.expected_batch_size)
