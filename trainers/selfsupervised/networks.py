"""Encoder and decoder: fully connected for tables and small images, convolutional for images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Literal

from torch import Tensor, nn

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds

Kind = Literal["mlp", "conv"]


@dataclass(frozen=True, slots=True)
class AutoencoderSpec:
    """`code` numbers describe a record. "mlp": layers of widths `hidden` on either side of it; "conv": two 3x3
    convolutions that halve height and width, with `channels`, and their mirror image."""

    kind: Kind = "mlp"
    hidden: tuple[int, ...] = (128,)
    channels: tuple[int, ...] = (8, 16)
    code: int = 16

    def __post_init__(self) -> None:
        if self.kind not in ("mlp", "conv"):
            raise ConfigError(f"model must be 'mlp' or 'conv', got {self.kind!r}")
        if len(self.channels) != 2:
            raise ConfigError(f"channels must be two widths, got {list(self.channels)}")
        for key, widths in (("hidden", self.hidden), ("channels", self.channels), ("code", (self.code,))):
            if any(width < 1 for width in widths):
                raise ConfigError(f"{key} must be positive, got {widths[0] if key == 'code' else list(widths)}")


class AutoencoderNetwork(nn.Module):
    """Records (batch, *shape) to reconstructions of the same shape; `encoder` alone gives codes (batch, code)."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, records: Tensor) -> Tensor:
        """Reconstructions."""
        reconstructed: Tensor = self.decoder(self.encoder(records))
        return reconstructed


class Crop(nn.Module):
    """Cuts images to `height` and `width`: doubling twice may overshoot."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, images: Tensor) -> Tensor:
        """The top left part."""
        return images[..., : self.height, : self.width]


def build_autoencoder(spec: AutoencoderSpec, shape: Sequence[int], *, seeds: Seeds) -> AutoencoderNetwork:
    """A fresh float32 network on the CPU, PyTorch's default weights drawn from `seeds`. Raises `ConfigError` for
    "conv" on records that are no images."""
    with seeds.torch_scope():
        return _conv(spec, tuple(shape)) if spec.kind == "conv" else _mlp(spec, tuple(shape))


def _mlp(spec: AutoencoderSpec, shape: tuple[int, ...]) -> AutoencoderNetwork:
    widths = (prod(shape), *spec.hidden, spec.code)
    encoder = nn.Sequential(nn.Flatten(), *_linear(widths))
    return AutoencoderNetwork(encoder, nn.Sequential(*_linear(widths[::-1]), nn.Unflatten(1, shape)))


def _linear(widths: tuple[int, ...]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return layers[:-1]


def _conv(spec: AutoencoderSpec, shape: tuple[int, ...]) -> AutoencoderNetwork:
    if len(shape) != 3:
        raise ConfigError(f"model 'conv' needs images (channels, height, width), got records of {shape}; use 'mlp'")
    depth, height, width = shape
    first, second = spec.channels
    small = (second, -(-height // 4), -(-width // 4))
    encoder = nn.Sequential(
        nn.Conv2d(depth, first, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(prod(small), spec.code),
    )
    # Enlarging and convolving instead of transposed convolutions, which Opacus has no per-sample gradients for.
    decoder = nn.Sequential(
        nn.Linear(spec.code, prod(small)),
        nn.ReLU(),
        nn.Unflatten(1, small),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(second, first, 3, padding=1),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(first, depth, 3, padding=1),
        Crop(height, width),
    )
    return AutoencoderNetwork(encoder, decoder)


def record_errors(reconstructions: Tensor, records: Tensor) -> Tensor:
    """Half the summed squared error of each record, (records,): the loss that is trained on."""
    return (reconstructions - records).flatten(1).square().sum(dim=1) / 2


def summed_error(reconstructions: Tensor, records: Tensor, reduction: str = "sum") -> Tensor:
    """`record_errors` added up, in the shape of torch's losses."""
    assert reduction == "sum"
    return record_errors(reconstructions, records).sum()
