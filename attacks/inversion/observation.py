"""What the server sees of one step, and the checks that it fits the model the attacker holds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.releases import ReleasesUpdates
from ...audit.seeds import Seeds
from .threat import ThreatModel


@dataclass(frozen=True, slots=True)
class Observation:
    """One released gradient (mean over the batch): a tensor a parameter, in the module's order, and the threat model.

    `statistics`: mean and variance of every batch-normalisation layer's input, where the release reveals them.
    """

    gradients: tuple[Any, ...]
    names: tuple[str, ...]
    threat: ThreatModel
    statistics: tuple[tuple[Any, Any], ...] = ()

    def __getitem__(self, name: str) -> Any:
        return self.gradients[self.names.index(name)]


def trainable(module: Any) -> dict[str, Any]:
    """Parameters that receive a gradient, by name, in the module's order."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def observe(
    trainer: ReleasesUpdates,
    module: Any,
    features: Any,
    labels: Any,
    *,
    threat: ThreatModel,
    learning_rate: float = 0.1,
    seeds: Seeds,
) -> Observation:
    """The gradient (or update after local steps) of one batch, clipped and noised as the trainer's facts say.

    `module` is left as it was, in the mode it is in: batch statistics follow from that mode.
    """
    import torch

    facts = trainer.release_facts(1e-5)
    parameters = trainable(module)
    if facts.clip is not None:
        total = trainer.updates(module, features, labels).sum(dim=0)
        noise = torch.randn(
            total.shape, generator=seeds.at("noise").torch_generator(str(total.device)), dtype=total.dtype
        )
        flat = (total + facts.noise * noise.to(total.device)) / len(labels)
        parts = flat.split([p.numel() for p in parameters.values()])
        gradients = tuple(part.view_as(p) for part, p in zip(parts, parameters.values(), strict=True))
    else:
        gradients = local_update(module, features, labels, steps=threat.local_steps, learning_rate=learning_rate)
    revealed = batch_statistics(module, features) if threat.normalisation == "revealed" else ()
    return Observation(gradients, tuple(parameters), threat, revealed)


def local_update(module: Any, features: Any, labels: Any, *, steps: int, learning_rate: float) -> tuple[Any, ...]:
    """What a client's weights moved by over `steps` plain steps on the same batch, over steps and learning rate; for
    one step the gradient itself."""
    import torch
    from torch.nn.functional import cross_entropy

    local = copy.deepcopy(module)
    start = [p.detach().clone() for p in trainable(local).values()]
    for _ in range(steps):
        current = list(trainable(local).values())
        gradients = torch.autograd.grad(cross_entropy(local(features), labels), current)
        if steps == 1:
            return tuple(g.detach() for g in gradients)
        with torch.no_grad():
            for parameter, gradient in zip(current, gradients, strict=True):
                parameter -= learning_rate * gradient
    moved = zip(start, trainable(local).values(), strict=True)
    return tuple((before - after.detach()) / (steps * learning_rate) for before, after in moved)


def batch_statistics(module: Any, features: Any) -> tuple[tuple[Any, Any], ...]:
    """Mean and variance (channels,) of what reaches each batch-normalisation layer, in forward order."""
    with _Listening(module) as listening:
        module(features)
    return tuple((mean.detach(), variance.detach()) for mean, variance in listening.seen)


class _Listening:
    """Collects the statistics of the inputs of batch-normalisation layers, differentiably."""

    def __init__(self, module: Any) -> None:
        from torch import nn

        self.seen: list[tuple[Any, Any]] = []
        layers = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        self._hooks = [layer.register_forward_pre_hook(self._hear) for layer in layers]

    def __enter__(self) -> _Listening:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _hear(self, _module: Any, inputs: tuple[Any, ...]) -> None:
        axes = [axis for axis in range(inputs[0].ndim) if axis != 1]
        self.seen.append((inputs[0].mean(axes), inputs[0].var(axes, unbiased=False)))


def listening(module: Any) -> _Listening:
    """A context in which `.seen` collects (mean, variance) of every batch-normalisation layer's input."""
    return _Listening(module)


def check_observation(gradients: Sequence[Any], module: Any) -> None:
    """Refuse gradients that are not this module's: a missing layer, a wrong shape, NaN, all zero."""
    parameters = trainable(module)
    if len(gradients) != len(parameters):
        raise IncompatibleError(
            f"the observation has {len(gradients)} gradients, the model {len(parameters)} parameters: a layer is "
            "missing or the model is another one"
        )
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        if tuple(gradient.shape) != tuple(parameter.shape):
            raise IncompatibleError(
                f"gradient of {name!r} has shape {tuple(gradient.shape)}, the parameter {tuple(parameter.shape)}"
            )
        if not bool(gradient.isfinite().all()):
            raise ConfigError(f"gradient of {name!r} has NaN or infinite entries: nothing can be read from it")
    if not any(bool(g.any()) for g in gradients):
        raise ConfigError("the observed gradient is zero everywhere: the batch taught the model nothing")
