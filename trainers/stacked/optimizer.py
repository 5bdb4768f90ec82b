"""SGD and Adam on stacked parameters: elementwise, so that many models are stepped as one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..recipe import OptimizerSpec
from .flat import Flat

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

    def __init__(self, spec: OptimizerSpec, parameters: Flat) -> None:
        self.spec = spec
        self.parameters = parameters
        self.into = parameters.zeros()
        self.beta = spec.momentum if spec.name == "sgd" else 0.0
        kinds = 2 if spec.name == "adam" else 0
        self.moments = [parameters.zeros() for _ in range(kinds)]
        self.taken = 0

    def step(self) -> None:
        """Move `parameters` in place by what has been added into `into`."""
        self.taken += 1
        p, g = self.parameters.memory, self.into.memory
        if self.spec.weight_decay:
            g.add_(p, alpha=self.spec.weight_decay)
        if self.spec.name == "sgd":
            p.add_(g, alpha=-self.spec.learning_rate)
        else:
            self._adam(p, g, *(kind.memory for kind in self.moments))

    def _adam(self, p: Tensor, g: Tensor, mean: Tensor, square: Tensor) -> None:
        first, second = ADAM_BETAS
        mean.lerp_(g, 1 - first)
        square.mul_(second).addcmul_(g, g, value=1 - second)
        size = square.sqrt().div_(math.sqrt(1 - second**self.taken)).add_(ADAM_EPSILON)
        p.addcdiv_(mean, size, value=-self.spec.learning_rate / (1 - first**self.taken))

    def keep(self, models: Tensor) -> None:
        """Go on with the models at these positions only."""
        self.parameters, self.into = self.parameters.keep(models), self.into.keep(models)
        self.moments = [kind.keep(models) for kind in self.moments]

    def tensors(self) -> dict[str, Tensor]:
        """The state, parameters included, for a checkpoint."""
        kinds = {"model": self.parameters, "gradient": self.into}
        kinds |= {f"moment.{number}": kind for number, kind in enumerate(self.moments)}
        return {f"{name}.{i}": part for name, kind in kinds.items() for i, part in enumerate(kind.parts)}

    def restore(self, tensors: dict[str, Tensor], taken: int) -> None:
        """Take over a state written by `tensors`, of as many models as are kept."""
        for name, part in self.tensors().items():
            part.copy_(tensors[name])
        self.taken = taken
