"""Masks on what layers put out: one element an output feature, or a channel and position of a convolution."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from ...audit.errors import IncompatibleError
from .frozen import Piece, maskable

if TYPE_CHECKING:
    from torch import Tensor, nn

Place = Literal["weights", "outputs"]
PLACES: tuple[Place, ...] = ("weights", "outputs")


def output_pieces(network: nn.Module, layers: Sequence[str], input_shape: Sequence[int]) -> list[Piece]:
    """A piece for each maskable layer, named by the layer: shape (features,), of a convolution all but the batch.

    A convolution's positions follow from one pass over zeros of `input_shape`. Raises `ConfigError` for a prefix that
    names nothing, `IncompatibleError` for a convolution that this pass does not reach.
    """
    chosen: dict[str, nn.Module] = {}
    for piece in maskable(network, layers):
        path = _owner(network, piece.name.rpartition(".")[0])
        chosen.setdefault(path, network.get_submodule(path))
    seen = _conv_shapes(network, chosen, input_shape)
    pieces, start = [], 0
    for name, layer in chosen.items():
        shape = seen[name] if name in seen else (_features(layer),)
        size = math.prod(shape)
        pieces.append(Piece(name, slice(start, start + size), shape))
        start += size
    return pieces


def _owner(network: nn.Module, path: str) -> str:
    """The layer whose output is masked for the weight's layer at `path`: attention for the projections inside it."""
    from torch import nn

    parent = path.rpartition(".")[0]
    inside = parent and isinstance(network.get_submodule(parent), nn.MultiheadAttention)
    return parent if inside else path


def _features(layer: Any) -> int:
    """Width of the last axis of the output."""
    for name in ("out_features", "embedding_dim", "embed_dim", "nf"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    raise IncompatibleError(f"place 'outputs': the output width of a {type(layer).__name__} is not known")


def _conv_shapes(
    network: nn.Module, chosen: Mapping[str, nn.Module], input_shape: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    import torch
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    convolutions = {name: layer for name, layer in chosen.items() if isinstance(layer, _ConvNd)}
    if not convolutions:
        return {}
    tokens = any(isinstance(m, nn.Embedding) for m in network.modules())
    seen: dict[str, tuple[int, ...]] = {}

    def hear(name: str) -> Any:
        return lambda _layer, _inputs, output: seen.update({name: tuple(output.shape[1:])})

    handles = [layer.register_forward_hook(hear(name)) for name, layer in convolutions.items()]
    try:
        with torch.no_grad():
            network(torch.zeros((1, *input_shape), dtype=torch.int64 if tokens else torch.float32))
    finally:
        for handle in handles:
            handle.remove()
    for name in convolutions:
        if name not in seen:
            raise IncompatibleError(f"place 'outputs': the network does not use its convolution {name!r}")
    return seen


@contextmanager
def scaled_outputs(network: nn.Module, multipliers: Mapping[str, Tensor]) -> Iterator[None]:
    """While it lasts, the output of each named layer comes out multiplied; attention's weights are left alone."""

    def scale(by: Tensor) -> Any:
        def hook(_layer: Any, _inputs: Any, output: Any) -> Any:
            return (output[0] * by, *output[1:]) if isinstance(output, tuple) else output * by

        return hook

    handles = [network.get_submodule(name).register_forward_hook(scale(by)) for name, by in multipliers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
