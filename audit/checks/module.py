"""Checks of a torch model: layers that mix examples, by name and by behaviour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..seeds import Seeds
from .record import CheckResult
from .static import MIXING_LAYERS

if TYPE_CHECKING:
    import torch


def layer_names(model: torch.nn.Module) -> tuple[str, ...]:
    """Class names of all layers, for `TrainingRecord.modules`."""
    return tuple(type(layer).__name__ for layer in model.modules())


def check_torch_module(model: torch.nn.Module, inputs: torch.Tensor, *, seeds: Seeds) -> CheckResult:
    """`static.module`: no layer shares statistics over the batch, by name, and none does by behaviour on `inputs`."""
    named = sorted({name for name in layer_names(model) if name.startswith(MIXING_LAYERS)})
    if named:
        return CheckResult("static.module", False, f"mixes examples: {', '.join(named)}")
    change = mixes_examples(model, inputs, seeds=seeds)
    if change > 0:
        return CheckResult(
            "static.module", False, f"an example's output moved by {change:g} when another example changed", change, 0.0
        )
    return CheckResult("static.module", True, "an example's output does not depend on the others of its batch")


def mixes_examples(model: torch.nn.Module, inputs: torch.Tensor, *, seeds: Seeds) -> float:
    """How far the outputs of examples 1, 2, ... of `inputs` move when example 0 is replaced, in training mode.

    Dropout and the like see the same random numbers in both passes. 0 for a model that treats examples on their
    own; rounding up to 1e-5 of the outputs is taken for 0. The model's buffers and mode are as before afterwards.
    """
    from copy import deepcopy

    import torch

    copy = deepcopy(model).train()
    changed = inputs.clone()
    changed[0] = changed[0].flip(-1) * 3 + 1 if changed.is_floating_point() else changed[-1]
    outputs = []
    for batch in (inputs, changed):
        with torch.no_grad(), seeds.torch_scope():
            outputs.append(copy(batch)[1:].double())
    move = float((outputs[0] - outputs[1]).abs().max())
    size = float(outputs[0].abs().max())
    return 0.0 if move <= 1e-5 * max(size, 1e-30) else move
