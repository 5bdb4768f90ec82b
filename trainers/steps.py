"""One optimizer step of one model: plain, or private by Opacus with per-sample gradients (hooks) or ghost clipping."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ..audit.errors import IncompatibleError
from ..audit.seeds import Seeds
from .recipe import OptimizerSpec, Recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Step(Protocol):
    """Moves the module by one step on a batch; the batch may be empty."""

    optimizer: torch.optim.Optimizer
    noise: torch.Generator | None

    def __call__(self, features: Tensor, labels: Tensor) -> None:
        """One step."""


def make_step(
    module: nn.Module, recipe: Recipe, *, seeds: Seeds, device: str, loss: Callable[..., Tensor] | None = None
) -> Step:
    """The step that `recipe` asks for. Noise comes from `seeds.at("noise")` on the device, and from nothing else.

    `loss(outputs, labels, reduction="sum")` adds up the losses of the batch's examples; None: cross-entropy, the only
    one that ghost clipping knows.
    """
    from torch.nn.functional import cross_entropy

    module.train()
    optimizer = make_optimizer(recipe.optimizer, [p for p in module.parameters() if p.requires_grad])
    if recipe.protection is None:
        return PlainStep(module, optimizer, recipe.batch_size, loss or cross_entropy)
    require_private(module)
    noise = seeds.at("noise").torch_generator(device)
    if recipe.protection.clipping == "ghost":
        if loss is not None:
            raise IncompatibleError("clipping 'ghost' is for classification: set clipping to 'hooks'")
        return GhostStep(module, optimizer, recipe, noise)
    return HooksStep(module, optimizer, recipe, noise, loss or cross_entropy)


def make_optimizer(spec: OptimizerSpec, parameters: list[Any]) -> torch.optim.Optimizer:
    """The `torch.optim` optimizer of `spec`."""
    import torch

    if spec.name == "adam":
        return torch.optim.Adam(parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay)
    return torch.optim.SGD(parameters, lr=spec.learning_rate, momentum=spec.momentum, weight_decay=spec.weight_decay)


def require_private(module: nn.Module) -> None:
    """Raise `IncompatibleError` for a module whose examples are not independent of each other (batch normalisation,
    ...), as Opacus's validator finds."""
    from opacus.validators import ModuleValidator

    errors = ModuleValidator.validate(module, strict=False)
    if errors:
        reason = str(errors[0]).split(". ")[0]
        raise IncompatibleError(f"dp-sgd cannot train this model: {reason}; use GroupNorm or another model")


class PlainStep:
    """Summed loss over the batch divided by a constant, backward, optimizer."""

    noise: torch.Generator | None = None

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, divisor: int, loss: Callable[..., Tensor]
    ) -> None:
        self.module, self.optimizer, self.divisor, self._loss = module, optimizer, divisor, loss

    def __call__(self, features: Tensor, labels: Tensor) -> None:
        """One step."""
        import torch

        self.optimizer.zero_grad()
        if len(labels):
            torch.autograd.backward(self._loss(self.module(features), labels, reduction="sum") / self.divisor)
        else:
            for p in self.module.parameters():
                p.grad = torch.zeros_like(p)
        self.optimizer.step()


class HooksStep:
    """Opacus `GradSampleModule` and `DPOptimizer`. The divisor is `batch_size`: `PrivacyEngine` would derive it from
    the private number of rows (Opacus issues 571, 819)."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        noise: torch.Generator,
        loss: Callable[..., Tensor],
    ) -> None:
        from opacus.grad_sample import GradSampleModule
        from opacus.optimizers import DPOptimizer

        assert recipe.protection is not None
        self.module = GradSampleModule(module, loss_reduction="sum")
        self._private = DPOptimizer(
            optimizer,
            noise_multiplier=recipe.protection.noise_multiplier,
            max_grad_norm=recipe.protection.max_grad_norm,
            expected_batch_size=recipe.batch_size,
            generator=noise,
        )
        self.optimizer, self._loss = optimizer, loss
        self.noise: torch.Generator | None = noise

    def __call__(self, features: Tensor, labels: Tensor) -> None:
        """One step; on an empty batch it is noise alone."""
        import torch

        self._private.zero_grad()
        if len(labels):
            torch.autograd.backward(self._loss(self.module(features), labels, reduction="sum"))
        else:
            for p in self._private.params:
                p.grad_sample = p.new_zeros((0, *p.shape))
        self._private.step()


class GhostStep:
    """Opacus's ghost clipping: gradient norms first, then one backward pass of the clipped sum."""

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, noise: torch.Generator
    ) -> None:
        from opacus.grad_sample import GradSampleModuleFastGradientClipping
        from opacus.optimizers import DPOptimizerFastGradientClipping
        from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
        from torch import nn

        assert recipe.protection is not None
        self.module = GradSampleModuleFastGradientClipping(
            module, max_grad_norm=recipe.protection.max_grad_norm, use_ghost_clipping=True
        )
        self._private = DPOptimizerFastGradientClipping(
            optimizer,
            noise_multiplier=recipe.protection.noise_multiplier,
            max_grad_norm=recipe.protection.max_grad_norm,
            expected_batch_size=recipe.batch_size,
            generator=noise,
        )
        # "mean" throughout, as Opacus demands: it affects the first backward pass, which gives norms only and is
        # scaled back; the update is the clipped sum over `expected_batch_size`.
        self._loss = DPLossFastGradientClipping(self.module, self._private, nn.CrossEntropyLoss())
        self.optimizer = optimizer
        self.noise: torch.Generator | None = noise

    def __call__(self, features: Tensor, labels: Tensor) -> None:
        """One step; on an empty batch it is noise alone."""
        import torch

        self._private.zero_grad()
        if len(labels):
            self._loss(self.module(features), labels).backward()
        else:
            for p in self._private.params:
                p.grad = torch.zeros_like(p)
        self._private.step()
