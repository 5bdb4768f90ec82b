"""A cohort's local training of scores: all its clients in one program, from the same global scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...audit.seeds import Seeds
from ..federated.cohort import client_seeds
from ..federated.layout import Buffers, Flat
from ..federated.local import LocalPlan
from ..federated.stack import CohortUpdates
from ..sampling import Positions
from .training import MaskPlan, MaskStack
from .uploads import Upload, entropy_of

if TYPE_CHECKING:
    from torch import Tensor

    from .module import Masked


@dataclass(slots=True)
class MaskClients:
    """Stands where the federated loop expects its `LocalTrainer`: `updates` are uploads (`Upload`) instead of weight
    deltas. `local` says which batches, `plan` which optimizer; its state starts anew in every round."""

    module: Masked
    features: Tensor
    labels: Tensor
    rows: Sequence[Positions]
    names: Sequence[str]
    local: LocalPlan
    plan: MaskPlan
    upload: Upload
    freeze_buffers: bool = True
    sent: Counter[str] = field(default_factory=Counter)

    def updates(
        self, weights: Flat, buffers: Buffers, chosen: NDArray[np.int64], *, seeds: Seeds, round_number: int
    ) -> Iterator[CohortUpdates]:
        """What the clients at positions `chosen` send, (part, dimension). A client without rows sends what unchanged
        scores give."""
        del buffers
        if not len(chosen):
            return
        own = [client_seeds(seeds, round_number, self.names[c]) for c in chosen.tolist()]
        after = self._train(weights, chosen, own)
        before = weights.astype(np.float64)
        sent = [self.upload.of(before, a, self.module.rule, seeds=s) for a, s in zip(after, own, strict=True)]
        self._count(sent)
        examples = np.array([len(self.rows[c]) for c in chosen.tolist()], np.int64)
        yield CohortUpdates(chosen, np.stack(sent), examples, [])

    def _train(self, weights: Flat, chosen: NDArray[np.int64], own: Sequence[Seeds]) -> NDArray[np.float64]:
        import torch

        batches = [
            [self.rows[c][b] for b in self.local.batches(len(self.rows[c]), seeds=s)]
            for c, s in zip(chosen.tolist(), own, strict=True)
        ]
        device = self.labels.device
        flat = torch.from_numpy(np.ascontiguousarray(weights)).to(device, torch.float32)
        generators = [s.at("masks").torch_generator(device) for s in own]
        stack = MaskStack(self.module, self.features, self.labels, self.plan)
        after = stack.train(flat.expand(len(own), -1), batches, generators)
        out: NDArray[np.float64] = after.cpu().numpy().astype(np.float64)
        return out

    def _count(self, sent: Sequence[NDArray[np.float64]]) -> None:
        for update in sent:
            used = float(np.count_nonzero(update)) if self.upload.kind == "flips" else 0.0
            self.sent["uploads"] += 1
            self.sent["bits"] += self.upload.bits_sent(len(update), used)  # type: ignore[assignment]
            self.sent["entropy"] += entropy_of(update) if self.upload.kind == "bits" else 0.0  # type: ignore[assignment]
