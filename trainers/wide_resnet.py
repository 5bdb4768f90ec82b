"""Wide residual networks (Zagoruyko and Komodakis 2016, arXiv 1605.07146) for 32x32 colour images, in plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..audit.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

STAGES = (16, 32, 64)
"""Channels of the three stages at width 1."""


def wide_resnet(shape: Sequence[int], classes: int, *, depth: int = 28, width: int = 2) -> nn.Module:
    """WRN-`depth`-`width` for images (channels, height, width) of at least 8 pixels a side, with batch normalisation.

    `depth` is 6 n + 4. Carlini et al. (2022, arXiv 2112.03570) attack networks of this kind on CIFAR-10.
    """
    from torch import nn

    if len(shape) != 3 or min(shape[1:]) < 8:
        raise ConfigError(f"model 'wide-resnet' needs images of at least 8 pixels a side, got shape {tuple(shape)}")
    if (depth - 4) % 6:
        raise ConfigError(f"model 'wide-resnet': depth must be 6 n + 4 (16, 22, 28, 40), got {depth}")
    layers: list[Any] = [nn.Conv2d(shape[0], STAGES[0], 3, padding=1, bias=False)]
    channels = STAGES[0]
    for number, planes in enumerate(STAGES):
        for block in range((depth - 4) // 6):
            stride = 2 if number and not block else 1
            layers.append(residual_block(channels, planes * width, stride))
            channels = planes * width
    layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*layers)


def wide_resnet_16_1(shape: Sequence[int], classes: int) -> nn.Module:
    """The smallest of the family, for trying things out."""
    return wide_resnet(shape, classes, depth=16, width=1)


def residual_block(channels: int, planes: int, stride: int) -> nn.Module:
    """Normalise, ReLU, convolve, twice, beside a shortcut that is projected where the shape changes."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.BatchNorm2d(channels), nn.BatchNorm2d(planes)
            self.one = nn.Conv2d(channels, planes, 3, stride=stride, padding=1, bias=False)
            self.two = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
            same = channels == planes and stride == 1
            self.shortcut = None if same else nn.Conv2d(channels, planes, 1, stride=stride, bias=False)

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            ready = torch.relu(self.first(values))
            beside: torch.Tensor = values if self.shortcut is None else self.shortcut(ready)
            found: torch.Tensor = self.two(torch.relu(self.second(self.one(ready))))
            return beside + found

    return Block()
