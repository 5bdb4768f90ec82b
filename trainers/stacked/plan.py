"""Which sequences of layers the layer engine can batch, and what it must know of each layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .engine import is_plain

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Parametric:
    """A linear layer or convolution: where its parameters are in the list, and the geometry of a convolution."""

    weight: int
    bias: int | None
    kernel: tuple[int, int] | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


def plan_of(module: nn.Module, *, image: bool) -> list[Parametric | nn.Module] | None:
    """The layers in order, or None where one is not batched here. `image`: records are (channels, height, width)."""
    from torch import nn

    plan: list[Parametric | nn.Module] = []
    held = 0
    leaves = list(_leaves(module))
    if not is_plain(module):
        return None
    for leaf in leaves:
        parameters = len(list(leaf.parameters()))
        layer = _parametric(leaf, held) if parameters else (leaf if _is_plain(leaf) else None)
        if layer is None or not _fits(leaf, image=image):
            return None
        image = image and not isinstance(leaf, nn.Flatten)
        plan.append(layer)
        held += parameters
    return plan if plan and isinstance(leaves[-1], nn.Linear) else None


def _fits(leaf: nn.Module, *, image: bool) -> bool:
    """Channels-last images go to layers of images, vectors to linear layers."""
    from torch import nn

    if isinstance(leaf, (nn.Conv2d, *pools())):
        return image
    return not (image and isinstance(leaf, nn.Linear))


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    from torch import nn

    if type(module) is nn.Sequential:
        for child in module:
            yield from _leaves(child)
    else:
        yield module


def _parametric(leaf: nn.Module, held: int) -> Parametric | None:
    from torch import nn

    bias = held + 1 if getattr(leaf, "bias", None) is not None else None
    if type(leaf) is nn.Linear:
        return Parametric(held, bias)
    if type(leaf) is not nn.Conv2d or isinstance(leaf.padding, str):
        return None
    if leaf.groups != 1 or leaf.dilation != (1, 1) or leaf.padding_mode != "zeros":
        return None
    pairs: list[Any] = [leaf.kernel_size, leaf.stride, leaf.padding]
    return Parametric(held, bias, *pairs)


def _is_plain(leaf: nn.Module) -> bool:
    from torch import nn

    if isinstance(leaf, nn.Flatten):
        return leaf.start_dim == 1 and leaf.end_dim == -1
    if getattr(leaf, "inplace", False):
        return False
    elementwise = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.ELU, nn.SiLU, nn.LeakyReLU, nn.Softplus, nn.Identity)
    return type(leaf) in (*elementwise, *pools(), nn.Dropout)


def pools() -> tuple[type[nn.Module], ...]:
    """Layers that work on each channel of an image by itself."""
    from torch import nn

    return nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d
