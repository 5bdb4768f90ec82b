"""The frozen network under a mask: which weights are masked, how they are drawn, and the digest that names them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.seeds import Seeds
from ..models import ModelSpec, build_model
from ..persistence import load_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

Origin = Literal["signed-constant", "kaiming", "model"]
ORIGINS = ("signed-constant", "kaiming", "model")


@dataclass(frozen=True, slots=True)
class Piece:
    """One masked weight: its name in the network, its place in the flat vector, and its shape."""

    name: str
    place: slice
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FrozenSpec:
    """The frozen weights, all public: an architecture, where its weights come from, and a seed of their own, so that
    target, shadows and clients share them.

    `origin` "signed-constant": sqrt(2 / (fan_in density)) with a random sign; "kaiming": normal with that standard
    deviation (Ramanujan et al. 2020, arXiv 1911.13299, section 3.1); `density` is the share of weights that the first
    mask keeps. "model": as the architecture makes them, a `module:attr` may load pretrained ones. `weights` is a
    safetensors file that replaces them. `layers` are prefixes of the names of the layers that are masked, all when
    empty. `gain` multiplies the masked weights of a "model", and `fresh_head` draws the last maskable layer anew as a
    signed constant without bias, for labels that a pretrained network did not know.
    """

    model: ModelSpec
    origin: Origin = "signed-constant"
    seed: int = 0
    weights: str | None = None
    layers: tuple[str, ...] = ()
    density: float = 0.5
    gain: float = 1.0
    fresh_head: bool = False

    def __post_init__(self) -> None:
        if self.origin not in ORIGINS:
            raise ConfigError(f"frozen must be one of {', '.join(ORIGINS)}, got {self.origin!r}")
        if self.weights is not None and self.origin != "model":
            raise ConfigError(f"weights from a file need frozen = 'model', got {self.origin!r}")
        if not self.gain > 0:
            raise ConfigError(f"frozen_gain must be > 0, got {self.gain}")
        if (self.gain != 1 or self.fresh_head) and self.origin != "model":
            raise ConfigError(
                f"frozen_gain and fresh_head change a given network: set frozen = 'model', got {self.origin!r}"
            )

    def build(self, input_shape: Sequence[int], classes: int) -> nn.Module:
        """The network on the CPU, in evaluation mode, without gradients."""
        seeds = Seeds(self.seed).at("frozen")
        network = build_model(self.model, tuple(input_shape), classes, seeds=seeds)
        if self.weights is not None:
            from pathlib import Path

            load_weights(network, Path(self.weights))
        self._draw(network, seeds.at("weights"))
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        return network.eval()

    def _draw(self, network: nn.Module, seeds: Seeds) -> None:
        import torch

        chosen = [piece.name for piece in maskable(network, self.layers)]
        last = maskable(network)[-1].name
        with torch.no_grad():
            for name, weight in network.named_parameters():
                fresh = self.origin != "model" or (
                    self.fresh_head and name.rpartition(".")[0] == last.rpartition(".")[0]
                )
                if not fresh:
                    weight.mul_(self.gain if name in chosen else 1.0)
                elif name in chosen or (self.fresh_head and name == last):
                    drawn = torch.randn(weight.shape, generator=seeds.at(name).torch_generator())
                    size = math.sqrt(2 / (fan_in(weight) * self.density))
                    weight.copy_(size * (drawn if self.origin == "kaiming" else drawn.sign()))
                elif name.endswith("bias"):
                    weight.zero_()


def fan_in(weight: Tensor) -> int:
    """Inputs of one output: all axes but the first (linear, convolution, attention)."""
    return max(1, weight[0].numel())


def maskable(network: nn.Module, layers: Sequence[str] = ()) -> list[Piece]:
    """The weights of linear, convolution, embedding and attention layers, biases and normalisations left out.

    Shared weights appear once. Raises `ConfigError` for a prefix in `layers` that names nothing, `IncompatibleError`
    for a network without any such weight.
    """
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    held: list[tuple[str, tuple[int, ...]]] = []
    for path, module in network.named_modules():
        # transformers' GPT-2 writes its linear layers as Conv1D.
        known = isinstance(module, nn.Linear | _ConvNd | nn.Embedding | nn.MultiheadAttention)
        if not known and type(module).__name__ != "Conv1D":
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim >= 2:
                held.append((f"{path}.{name}" if path else name, tuple(parameter.shape)))
    unique = {name for name, _ in network.named_parameters()}
    held = [h for h in held if h[0] in unique]
    for prefix in layers:
        if not any(name.startswith(prefix) for name, _ in held):
            raise ConfigError(f"layers: no maskable weight starts with {prefix!r}; there are {_few(held)}")
    if layers:
        held = [h for h in held if h[0].startswith(tuple(layers))]
    if not held:
        raise IncompatibleError("the model has no linear, convolution, embedding or attention weight to mask")
    pieces, start = [], 0
    for name, shape in held:
        size = math.prod(shape)
        pieces.append(Piece(name, slice(start, start + size), shape))
        start += size
    return pieces


def frozen_digest(network: nn.Module, free: Sequence[str] = ()) -> str:
    """SHA-256 of names, shapes, types and bytes of all parameters and buffers but the `free` (trained) ones."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if name in free:
            continue
        array = np.ascontiguousarray(tensor.detach().cpu().numpy())
        digest.update(f"{name}\x1f{array.dtype.str}\x1f{array.shape}\x1f".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _few(held: Sequence[tuple[str, tuple[int, ...]]]) -> str:
    names = [name for name, _ in held]
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
