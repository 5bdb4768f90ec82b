"""Convolutional networks that the gradient-inversion literature attacks, in plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..audit.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


def convnet(shape: Sequence[int], classes: int, *, width: int = 32, batch_norm: bool = False) -> nn.Module:
    """Three 3x3 convolutions (`width`, twice, twice) with ReLU, two poolings by 3 and a linear layer.

    The size of the small network that gradient inversion is usually shown on (Geiping et al. 2020, arXiv 2003.14053,
    use deeper ones of the same kind). `batch_norm` puts a normalisation behind each convolution.
    """
    from torch import nn

    depth, height, across = _image(shape, "convnet", least=9)
    layers: list[nn.Module] = []
    for number, (depth_in, depth_out) in enumerate(((depth, width), (width, 2 * width), (2 * width, 2 * width))):
        layers.append(nn.Conv2d(depth_in, depth_out, 3, padding=1))
        layers += [nn.BatchNorm2d(depth_out)] if batch_norm else []
        layers.append(nn.ReLU())
        layers += [nn.MaxPool2d(3)] if number else []
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * width * (height // 9) * (across // 9), classes))


def convnet_with_batch_norm(shape: Sequence[int], classes: int) -> nn.Module:
    """`convnet` with batch normalisation."""
    return convnet(shape, classes, batch_norm=True)


def lenet(shape: Sequence[int], classes: int) -> nn.Module:
    """The smooth network of Zhu, Liu and Han (2019, arXiv 1906.08935): sigmoids, weights uniform on [-0.5, 0.5]."""
    from torch import nn

    depth, height, across = _image(shape, "lenet", least=4)
    height, across = -(-height // 4), -(-across // 4)
    module = nn.Sequential(
        nn.Conv2d(depth, 12, 5, padding=2, stride=2),
        nn.Sigmoid(),
        nn.Conv2d(12, 12, 5, padding=2, stride=2),
        nn.Sigmoid(),
        nn.Conv2d(12, 12, 5, padding=2),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(12 * height * across, classes),
    )
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    return module


def _image(shape: Sequence[int], name: str, *, least: int) -> tuple[int, int, int]:
    if len(shape) != 3 or min(shape[1:]) < least:
        raise ConfigError(
            f"model {name!r} needs images (channels, height, width), {least} pixels a side or more, got {tuple(shape)}"
        )
    return shape[0], shape[1], shape[2]
