"""Architectures by name: `mlp`, `cnn`, `logistic`, `convnet`, `convnet-bn`, `lenet`, `transformer` or `module:attr`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

from ..audit.errors import ConfigError, IncompatibleError
from ..audit.registry import load_attribute, nearest
from ..audit.seeds import Seeds
from .networks import convnet, convnet_with_batch_norm, lenet
from .transformer.spec import TransformerSpec, TransformerTable, transformer_spec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """An architecture: its name and the parameters that the built-in ones use.

    `hidden` are the widths of an `mlp`, `channels` those of a `cnn`; `dropout` is applied before the last layer of a
    `cnn` and after each hidden layer of an `mlp`. For `module:attr` all three are ignored: the callable decides.
    `transformer` describes a `transformer`; a table of its keys will do.
    """

    name: str = "mlp"
    hidden: tuple[int, ...] = (128,)
    channels: tuple[int, ...] = (8, 16)
    dropout: float = 0.0
    transformer: TransformerTable | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "transformer", transformer_spec(self.transformer))
        if ":" not in self.name and self.name not in _BUILT_IN:
            raise ConfigError(f"unknown model {self.name!r}{nearest(self.name, [*_BUILT_IN, 'module:attr'])}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must lie in [0, 1), got {self.dropout}")
        if self.name != "transformer" and self.transformer is not None:
            raise ConfigError(f"the table 'transformer' is for model 'transformer', got model {self.name!r}")
        if self.name == "transformer" and self.dropout:
            raise ConfigError(f"model 'transformer' has no dropout, got {self.dropout}: leave it out")
        for key, widths in (("hidden", self.hidden), ("channels", self.channels)):
            if any(width < 1 for width in widths):
                raise ConfigError(f"{key} must be positive widths, got {list(widths)}")


def build_model(spec: ModelSpec, input_shape: Sequence[int], classes: int, *, seeds: Seeds) -> nn.Module:
    """A fresh float32 module on the CPU that maps (batch, *input_shape) to logits (batch, classes).

    Initial weights are PyTorch's defaults drawn from `seeds.at("init")`, the same on every device. Raises `ConfigError`
    where the architecture does not fit the input, `IncompatibleError` where `module:attr` gives no module.
    """
    shape = tuple(input_shape)
    with seeds.at("init").torch_scope():
        if spec.name in _BUILT_IN:
            return _BUILT_IN[spec.name](spec, shape, classes)
        return _from_callable(spec.name, shape, classes)


def _from_callable(path: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    from torch import nn

    built = load_attribute(path, f"model {path!r}")(shape, classes)
    if not isinstance(built, nn.Module):
        raise IncompatibleError(f"model {path!r} returned {type(built).__name__}; it must return a torch.nn.Module")
    return built


def _logistic(_spec: ModelSpec, shape: tuple[int, ...], classes: int) -> nn.Module:
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), classes))


def _mlp(spec: ModelSpec, shape: tuple[int, ...], classes: int) -> nn.Module:
    from torch import nn

    layers: list[nn.Module] = [nn.Flatten()]
    for width_in, width_out in pairwise((prod(shape), *spec.hidden)):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
        if spec.dropout:
            layers.append(nn.Dropout(spec.dropout))
    last = spec.hidden[-1] if spec.hidden else prod(shape)
    return nn.Sequential(*layers, nn.Linear(last, classes))


def _cnn(spec: ModelSpec, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Blocks of 3x3 convolution that halves height and width, and ReLU; then one linear layer.

    Strides instead of pooling: a quarter of the arithmetic (Springenberg et al. 2015, arXiv 1412.6806).
    """
    from torch import nn

    if len(shape) != 3 or not spec.channels:
        raise ConfigError(
            f"model 'cnn' needs images (channels, height, width) and at least one entry in channels, got records of "
            f"shape {shape} and channels {list(spec.channels)}; use model 'mlp'"
        )
    layers: list[nn.Module] = []
    height, width = shape[1:]
    for depth_in, depth_out in pairwise((shape[0], *spec.channels)):
        layers += [nn.Conv2d(depth_in, depth_out, 3, stride=2, padding=1), nn.ReLU()]
        height, width = -(-height // 2), -(-width // 2)
    layers.append(nn.Flatten())
    if spec.dropout:
        layers.append(nn.Dropout(spec.dropout))
    return nn.Sequential(*layers, nn.Linear(spec.channels[-1] * height * width, classes))


def _transformer(spec: ModelSpec, shape: tuple[int, ...], classes: int) -> nn.Module:
    from .transformer.build import build_classifier

    return build_classifier(transformer_spec(spec.transformer) or TransformerSpec(), shape, classes)


def _network(
    build: Callable[[Sequence[int], int], nn.Module],
) -> Callable[[ModelSpec, tuple[int, ...], int], nn.Module]:
    return lambda _spec, shape, classes: build(shape, classes)


_BUILT_IN: dict[str, Callable[[ModelSpec, tuple[int, ...], int], nn.Module]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "logistic": _logistic,
    "convnet": _network(convnet),
    "convnet-bn": _network(convnet_with_batch_norm),
    "lenet": _network(lenet),
    "transformer": _transformer,
}
