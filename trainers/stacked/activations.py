"""What automatic differentiation holds of a module, for planning memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def activations(module: nn.Module, example: Tensor) -> int:
    """Numbers that automatic differentiation holds per example: inputs, outputs and their gradients, patches."""
    import torch
    from torch import nn

    held = 0

    def count(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal held
        held += 2 * output.numel()
        if isinstance(layer, nn.Conv2d):
            held += 2 * output[0, 0].numel() * layer.weight[0].numel()

    leaves = [m for m in module.modules() if not list(m.children())]
    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    was_training = module.training
    module.eval()
    with torch.no_grad():
        module(example)
    module.train(was_training)
    for hook in hooks:
        hook.remove()
    return held + example.numel()
