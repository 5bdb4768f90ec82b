"""Losses of every record along the distillation of the model: how hard the record is for who learns it second-hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ....audit.errors import ConfigError, IncompatibleError
from ....audit.seeds import Seeds
from ....audit.types import Access, Rows, Trained
from ...parameters import require_integer

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Cross-entropy of a record's label under a student of the model, after each epoch of distillation.

    Liu, Zhao, Backes, Zhang 2022 (arXiv 2208.14933): a model's training losses, which nobody sees, are
    imitated by distilling it on records outside the game. Here the records asked (candidates and public ones,
    membership unknown) are cut into `folds` by lot, and a record's losses are those of the student that was distilled
    on the other folds: it never saw the record, and no record is held back from the game. Students are perceptrons with
    one hidden layer, all folds trained as one batched product; the cuts, initial weights and batches are the same for
    every model, so that trajectories of target and shadows compare.
    """

    name: ClassVar[str] = "trajectory"
    version: ClassVar[str] = "1"
    access: ClassVar[Access] = Access.LOGITS

    epochs: int = 20
    folds: int = 4
    hidden: int = 128
    batch_size: int = 64
    learning_rate: float = 0.002

    def __post_init__(self) -> None:
        for key, least in (("epochs", 1), ("folds", 2), ("hidden", 1), ("batch_size", 1)):
            require_integer(self.name, key, getattr(self, key), least=least)
        if not self.learning_rate > 0:
            raise ConfigError(f"query {self.name!r}: learning_rate must be > 0, got {self.learning_rate}")

    def ask(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:
        """float32 (records, epochs), in nats. `IncompatibleError` for tokens or fewer records than folds."""
        import torch

        if not np.issubdtype(rows.features.dtype, np.floating):
            raise IncompatibleError(f"query {self.name!r} needs numbers, got {rows.features.dtype} features (tokens)")
        if len(rows) < 2 * self.folds:
            raise IncompatibleError(f"query {self.name!r}: {len(rows)} records are too few for {self.folds} folds")
        fold = seeds.at("folds").generator().permutation(len(rows)) % self.folds
        teacher = torch.from_numpy(trained.target.log_probabilities(rows.features)).to(device)
        flat = np.ascontiguousarray(rows.features.reshape(len(rows), -1), dtype=np.float32)
        points = torch.tensor(flat, device=device)
        labels = torch.tensor(rows.labels, device=device)
        students = _Students.fresh(self, points.shape[1], teacher.shape[1], seeds, device)
        where = torch.from_numpy(fold).to(device)
        losses = torch.empty(len(rows), self.epochs)
        for epoch in range(self.epochs):
            students.learn(points, teacher, self._batches(fold, seeds.at("epoch", epoch)), self.batch_size)
            losses[:, epoch] = students.losses(points, labels, where).cpu()
        return losses.numpy()

    def _batches(self, fold: NDArray[np.intp], seeds: Seeds) -> NDArray[np.intp]:
        """Positions (folds, rows of the smallest training part) in an order of the epoch's own."""
        generator = seeds.generator()
        orders = [generator.permutation(np.flatnonzero(fold != k)) for k in range(self.folds)]
        shortest = min(map(len, orders))
        return np.stack([order[:shortest] for order in orders])


@dataclass(slots=True)
class _Students:
    """One perceptron a fold: weights (folds, inputs, hidden), (folds, hidden, classes), their biases, under Adam."""

    weights: list[Tensor]
    optimizer: torch.optim.Optimizer

    @classmethod
    def fresh(cls, spec: Trajectory, inputs: int, classes: int, seeds: Seeds, device: str) -> _Students:
        import torch

        generator = seeds.at("init").generator()
        weights = []
        for width_in, width_out in ((inputs, spec.hidden), (spec.hidden, classes)):
            # PyTorch's default for a linear layer: uniform within one over the root of the inputs.
            reach = 1 / np.sqrt(width_in)
            for shape in ((spec.folds, width_in, width_out), (spec.folds, 1, width_out)):
                drawn = generator.uniform(-reach, reach, shape).astype(np.float32)
                weights.append(torch.from_numpy(drawn).to(device).requires_grad_())
        return cls(weights, torch.optim.Adam(weights, lr=spec.learning_rate))

    def logits(self, points: Tensor) -> Tensor:
        """(folds, rows, classes) of points (folds, rows, inputs)."""
        import torch

        first, first_bias, second, second_bias = self.weights
        hidden = torch.baddbmm(first_bias, points, first).relu()
        return torch.baddbmm(second_bias, hidden, second)

    def learn(self, points: Tensor, teacher: Tensor, order: NDArray[np.intp], batch_size: int) -> None:
        """One epoch: Kullback-Leibler divergence from the teacher's answers, batch by batch."""
        import torch

        positions = torch.from_numpy(order).to(points.device)
        for batch in torch.split(positions, batch_size, dim=1):
            answers = self.logits(points[batch]).log_softmax(dim=2)
            wanted = teacher[batch]
            divergence = (wanted.exp() * (wanted - answers)).sum(dim=2).mean(dim=1).sum()
            self.optimizer.zero_grad()
            divergence.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()

    def losses(self, points: Tensor, labels: Tensor, fold: Tensor) -> Tensor:
        """Cross-entropy (rows,) of each row under the student of its own fold."""
        import torch
        from torch.nn import functional

        out = torch.empty(len(points), device=points.device)
        first, first_bias, second, second_bias = (w.detach() for w in self.weights)
        for k in range(len(first)):
            own = torch.nonzero(fold == k)[:, 0]
            hidden = (points[own] @ first[k] + first_bias[k]).relu()
            out[own] = functional.cross_entropy(hidden @ second[k] + second_bias[k], labels[own], reduction="none")
        return out
