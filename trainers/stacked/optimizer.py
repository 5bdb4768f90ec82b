"""SGD and Adam on stacked parameters: elementwise, so that many models are stepped as one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..recipe import OptimizerSpec

if TYPE_CHECKING:
    from torch import Tensor

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
"""The defaults of `torch.optim.Adam`."""


class StackedOptimizer:
    """The arithmetic of `torch.optim.SGD` and `Adam` (Kingma, Ba 2015, arXiv 1412.6980).

    The loop adds gradients into `into`, first scaled by `beta`: for SGD `into` is the momentum buffer itself, which
    saves writing and reading the gradient once.
    """

    def __init__(self, spec: OptimizerSpec, parameters: list[Tensor]) -> None:
        import torch

        self.spec = spec
        self.into = [torch.zeros_like(p) for p in parameters]
        self.beta = spec.momentum if spec.name == "sgd" else 0.0
        kinds = 2 if spec.name == "adam" else 0
        self.moments = [[torch.zeros_like(p) for p in parameters] for _ in range(kinds)]
        self.taken = 0

    def step(self, parameters: list[Tensor]) -> None:
        """Move `parameters` in place by what has been added into `into`."""
        self.taken += 1
        for index, (p, g) in enumerate(zip(parameters, self.into, strict=True)):
            if self.spec.weight_decay:
                g.add_(p, alpha=self.spec.weight_decay)
            if self.spec.name == "sgd":
                p.add_(g, alpha=-self.spec.learning_rate)
            else:
                self._adam(p, g, self.moments[0][index], self.moments[1][index])

    def _adam(self, p: Tensor, g: Tensor, mean: Tensor, square: Tensor) -> None:
        first, second = ADAM_BETAS
        mean.lerp_(g, 1 - first)
        square.mul_(second).addcmul_(g, g, value=1 - second)
        size = square.sqrt().div_(math.sqrt(1 - second**self.taken)).add_(ADAM_EPSILON)
        p.addcdiv_(mean, size, value=-self.spec.learning_rate / (1 - first**self.taken))

    def keep(self, models: Tensor) -> None:
        """Go on with the models at these positions only."""
        self.into = [t[models] for t in self.into]
        self.moments = [[t[models] for t in kind] for kind in self.moments]

    def tensors(self) -> dict[str, Tensor]:
        """The state, for a checkpoint."""
        kinds = [self.into, *self.moments]
        return {f"optimizer.{kind}.{i}": t for kind, tensors in enumerate(kinds) for i, t in enumerate(tensors)}

    def restore(self, tensors: dict[str, Tensor], taken: int) -> None:
        """Take over a state written by `tensors`."""
        kinds = [self.into, *self.moments]
        for kind, own in enumerate(kinds):
            for i in range(len(own)):
                own[i] = tensors[f"optimizer.{kind}.{i}"].to(own[i].device)
        self.taken = taken
