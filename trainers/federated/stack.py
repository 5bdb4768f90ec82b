"""The local training of a whole cohort at once: one batched matrix product a layer for all clients of a chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...audit.seeds import Seeds
from ..sampling import Positions
from ..stacked.dense import dense_engine
from ..stacked.engine import Engine, StackedBatch
from ..stacked.functional import functional_engine
from ..stacked.layers import layer_engine
from .cohort import client_seeds
from .layout import Buffers, Flat, dimension
from .local import LocalPlan, local_update

if TYPE_CHECKING:
    from torch import Tensor, nn

BYTES = {"cpu": 24 << 20, "cuda": 2 << 30}
"""Working memory of one chunk of clients: about the last-level cache on the CPU."""


@dataclass(frozen=True, slots=True)
class CohortUpdates:
    """A part of the cohort: `clients` (part,) positions, `deltas` (part, dimension), `examples` (part,), and the
    buffers each client ended with (empty without buffers)."""

    clients: NDArray[np.int64]
    deltas: Flat
    examples: NDArray[np.int64]
    buffers: list[Buffers]


@dataclass(slots=True)
class LocalTrainer:
    """Trains cohorts of clients from one global model, stacked where the architecture allows.

    Models with buffers, dropout or frozen parameters, and those that no engine takes, train one after another. Both
    ways give the same updates to rounding. `module` is scratch space on the device.
    """

    module: nn.Module
    features: Tensor
    labels: Tensor
    rows: Sequence[Positions]
    names: Sequence[str]
    plan: LocalPlan
    freeze_buffers: bool = False
    _engine: Engine | None = None

    @property
    def stacked(self) -> bool:
        """Whether clients are trained together."""
        return _stackable(self.module) and self._chunk_engine() is not None

    def updates(
        self, weights: Flat, buffers: Buffers, chosen: NDArray[np.int64], *, seeds: Seeds, round_number: int
    ) -> Iterator[CohortUpdates]:
        """The updates of the clients at positions `chosen` in bounded portions; `seeds` are the run's.

        A client without rows appears with a zero update and 0 examples.
        """
        if not self.stacked:
            for client in chosen.tolist():
                yield self._single(weights, buffers, client, client_seeds(seeds, round_number, self.names[client]))
            return
        steps = np.array([self.plan.steps(len(self.rows[c])) for c in chosen.tolist()])
        sizes = np.array([len(self.rows[c]) for c in chosen.tolist()])
        # Clients with alike amounts of work together: little padding, and nobody waits for the largest.
        order = chosen[np.lexsort((chosen, -sizes, -steps))]
        for part in self._chunks(order):
            yield self._together(weights, part, seeds, round_number)

    def _single(self, weights: Flat, buffers: Buffers, client: int, seeds: Seeds) -> CohortUpdates:
        import torch

        index = torch.from_numpy(self.rows[client]).to(self.labels.device)
        update = local_update(
            self.module,
            weights,
            self.features[index],
            self.labels[index],
            self.plan,
            seeds=seeds,
            buffers=buffers,
            freeze_buffers=self.freeze_buffers,
        )
        held = [update.buffers] if update.buffers else []
        return CohortUpdates(np.array([client]), update.delta[None], np.array([update.examples]), held)

    def _together(self, weights: Flat, part: NDArray[np.int64], seeds: Seeds, round_number: int) -> CohortUpdates:
        import torch

        engine = self._chunk_engine()
        assert engine is not None
        engine.parameters = _copies(self.module, weights, len(part))
        own = [client_seeds(seeds, round_number, self.names[c]) for c in part.tolist()]
        batches = [
            [self.rows[c][b] for b in self.plan.batches(len(self.rows[c]), seeds=s)]
            for c, s in zip(part.tolist(), own, strict=True)
        ]
        for step in range(max(map(len, batches), default=0)):
            self._step(engine, [b[step] if step < len(b) else b[:0] for b in batches])  # type: ignore[misc]
        flat = torch.cat([p.flatten(1) for p in engine.parameters], dim=1)
        deltas = flat.cpu().numpy() - weights
        examples = np.array([len(self.rows[c]) for c in part.tolist()], np.int64)
        return CohortUpdates(part, deltas, examples, [])

    def _step(self, engine: Engine, batches: Sequence[Positions]) -> None:
        """One local step of every client that still has a batch; the others stand still (weight 0)."""
        import torch

        width = max(map(len, batches))
        positions = np.zeros((len(batches), width), np.int64)
        shares = np.zeros((len(batches), width))
        for slot, batch in enumerate(batches):
            if len(batch):
                positions[slot, : len(batch)] = batch
                shares[slot, : len(batch)] = 1 / len(batch)
        device = self.labels.device
        index = torch.from_numpy(positions).to(device)
        each = torch.from_numpy(shares).to(device, engine.parameters[0].dtype)
        stacked = StackedBatch(index, self.labels[index], each, [len(b) for b in batches], [])
        engine.accumulate(stacked, engine.parameters, beta=1.0, scale=-self.plan.learning_rate)

    def _chunks(self, order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """As many clients at a time as fit the working memory; the first of each chunk has the widest batches."""
        start = 0
        while start < len(order):
            widest = max(1, len(self.rows[int(order[start])]))
            width = widest if self.plan.algorithm == "fedsgd" else min(widest, self.plan.batch_size)
            size = self._chunk_size(width)
            yield order[start : start + size]
            start += size

    def _chunk_engine(self) -> Engine | None:
        if self._engine is None:
            self._engine = (
                dense_engine([self.module], self.features, private=False)
                or layer_engine([self.module], self.features)
                or functional_engine([self.module], self.features)
            )
        return self._engine

    def _chunk_size(self, width: int) -> int:
        """How many clients fit the working memory, with batches of `width` rows."""
        engine = self._chunk_engine()
        assert engine is not None
        values = 3 * dimension(self.module) + engine.values(width)
        budget = BYTES["cuda" if self.labels.is_cuda else "cpu"] // engine.parameters[0].element_size()
        return max(1, budget // values)


def _stackable(module: nn.Module) -> bool:
    """Without buffers, frozen parameters and randomness."""
    from torch import nn

    random = any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in module.modules())
    return not random and not list(module.buffers()) and all(p.requires_grad for p in module.parameters())


def _copies(module: nn.Module, weights: Flat, count: int) -> list[Tensor]:
    """The global weights once for each of `count` clients, parameter by parameter."""
    import torch

    copies, start = [], 0
    for p in module.parameters():
        part = torch.from_numpy(np.ascontiguousarray(weights[start : start + p.numel()]))
        copies.append(part.to(p.device, p.dtype).view_as(p).expand(count, *p.shape).clone())
        start += p.numel()
    return copies
