"""Gradient matching: images whose gradient is the observed one, by optimisation, many restarts in one program."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from .observation import Observation, check_observation, listening, trainable


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """How to search. `distance`: "cosine" (Inverting Gradients, Geiping et al. 2020, arXiv 2003.14053) or "euclidean"
    (DLG, Zhu, Liu and Han 2019, arXiv 1906.08935).

    `optimizer`: "adam" on the sign of the gradient with a cosine schedule, or "lbfgs". `total_variation`,
    `statistics` (distance to known batch statistics) and `consistency` (distance of the restarts to their mean, Yin et
    al. 2021, arXiv 2104.07586) are weights of the further terms. A search starts from normal noise of `spread` in the
    model's scale. `restarts` run side by side in one program, or one after another where `together` is False (then
    without `consistency`); the one with the least matching loss is taken, and the truth is never looked at. `seconds`
    stops early, each restart having its share of them.
    """

    distance: Literal["cosine", "euclidean"] = "cosine"
    optimizer: Literal["adam", "lbfgs"] = "adam"
    iterations: int = 400
    learning_rate: float = 0.1
    total_variation: float = 0.1
    statistics: float = 0.0
    consistency: float = 0.0
    restarts: int = 1
    spread: float = 1.0
    together: bool = True
    seconds: float | None = None

    def __post_init__(self) -> None:
        for key in ("iterations", "restarts"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key} must be at least 1, got {getattr(self, key)}")
        if self.distance not in ("cosine", "euclidean") or self.optimizer not in ("adam", "lbfgs"):
            raise ConfigError(f"unknown distance {self.distance!r} or optimizer {self.optimizer!r}")


@dataclass(frozen=True, slots=True)
class Match:
    """The best restart's images (batch, channels, height, width) in the model's input scale, every restart's final
    matching loss (restarts,), and what it took: steps of the whole program (of all searches where they took turns)."""

    images: Any
    losses: Any
    iterations: int
    seconds: float


def match(
    observation: Observation,
    module: Any,
    labels: Any,
    shape: tuple[int, ...],
    search: Matching,
    *,
    low: Any,
    high: Any,
    seeds: Seeds,
    loss: Loss | None = None,
) -> Match:
    """Search for images of `shape` with `labels` (batch,) between `low` and `high`; `loss` replaces the distance of
    gradients. Errors as `check_observation`."""
    import torch

    check_observation(observation.gradients, module)
    start = search.spread * _starts(observation.gradients[0], (len(labels), *shape), search.restarts, seeds)
    start = torch.maximum(torch.minimum(start, high), low)
    loss = matching_loss(observation, module, labels, search) if loss is None else loss
    run = _lbfgs if search.optimizer == "lbfgs" else _signed_adam
    groups = [start] if search.together else [start[k : k + 1] for k in range(search.restarts)]
    if search.seconds is not None:
        search = replace(search, seconds=search.seconds / len(groups))
    began, done, found, losses = time.perf_counter(), 0, [], []
    for group in groups:
        images = group.clone().requires_grad_()
        done += run(images, loss, search, low, high)
        found.append(images.detach())
        losses.append(torch.nan_to_num(loss(images)[0].detach(), nan=math.inf))
    final = torch.cat(losses)
    return Match(torch.cat(found)[int(final.argmin())], final, done, time.perf_counter() - began)


def _starts(like: Any, shape: tuple[int, ...], restarts: int, seeds: Seeds) -> Any:
    """(restarts, *shape) of noise, each restart from a stream of its own: more of them change none of the others."""
    import torch

    streams = [seeds.at("restart", number).torch_generator() for number in range(restarts)]
    return torch.stack([torch.randn(shape, generator=g, dtype=like.dtype) for g in streams]).to(like.device)


Loss = Callable[[Any], tuple[Any, Any]]
"""Images (restarts, batch, ...) to the matching loss (restarts,) and the whole loss (restarts,)."""


def matching_loss(observation: Observation, module: Any, labels: Any, search: Matching) -> Loss:
    """How far the gradients of images are from the observed one, for several sets of images at once."""
    gradient = _gradient_of_restarts(module, labels)
    target = observation.gradients
    norm = math.sqrt(sum(float(g.square().sum()) for g in target))

    def loss(images: Any) -> tuple[Any, Any]:
        gradients, statistics = gradient(images)
        if search.distance == "cosine":
            inner = sum((g * t).flatten(1).sum(1) for g, t in zip(gradients, target, strict=True))
            length = sum(g.square().flatten(1).sum(1) for g in gradients).clamp(min=1e-30).sqrt()
            matched = 1 - inner / (length * norm)
        else:
            matched = sum((g - t).square().flatten(1).sum(1) for g, t in zip(gradients, target, strict=True))
        whole = matched
        if search.total_variation:
            whole = whole + search.total_variation * total_variation(images)
        if search.statistics and observation.statistics:
            whole = whole + search.statistics * _statistics_distance(statistics, observation.statistics)
        if search.consistency and len(images) > 1:
            whole = whole + search.consistency * (images - images.mean(0).detach()).square().flatten(1).mean(1)
        return matched, whole

    return loss


def _gradient_of_restarts(module: Any, labels: Any) -> Callable[[Any], tuple[list[Any], list[Any]]]:
    """Gradients (restarts, *parameter) of the mean loss of each restart's batch, differentiable in the images."""
    import torch
    from torch.func import functional_call, grad, vmap
    from torch.nn.functional import cross_entropy

    parameters = trainable(module)
    weights = {k: v.detach().clone().requires_grad_() for k, v in parameters.items()}
    fixed = {
        k: v.detach().clone() for k, v in [*module.named_buffers(), *module.named_parameters()] if k not in weights
    }

    def one(images: Any) -> tuple[list[Any], list[Any]]:
        with listening(module) as heard:
            output = functional_call(module, {**weights, **_copied(fixed)}, (images[0],))
        loss = cross_entropy(output, labels)
        found = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        return [g.unsqueeze(0) for g in found], [s for pair in heard.seen for s in pair]

    def loss_of(values: dict[str, Any], images: Any) -> Any:
        return cross_entropy(functional_call(module, {**values, **fixed}, (images,)), labels)

    coupled = any("running_mean" in name for name in fixed)
    batched: Any = vmap(grad(loss_of), in_dims=(None, 0))
    plain = {k: v.detach() for k, v in weights.items()}

    def many(images: Any) -> tuple[list[Any], list[Any]]:
        return list(batched(plain, images).values()), []

    def one_by_one(images: Any) -> tuple[list[Any], list[Any]]:
        each = [one(image.unsqueeze(0)) for image in images]
        return [torch.cat(parts) for parts in zip(*(e[0] for e in each), strict=True)], each[0][1]

    def gradient(images: Any) -> tuple[list[Any], list[Any]]:
        if len(images) == 1:
            return one(images)
        # Batch statistics cannot be batched by vmap: restarts of such a model take turns.
        return one_by_one(images) if coupled else many(images)

    return gradient


def _copied(buffers: dict[str, Any]) -> dict[str, Any]:
    """Copies, since batch normalisation in training mode writes into its running statistics."""
    return {k: v.clone() for k, v in buffers.items()}


def _statistics_distance(seen: list[Any], known: tuple[tuple[Any, Any], ...]) -> Any:
    flat = [part for pair in known for part in pair]
    return sum((a - b).square().mean() for a, b in zip(seen, flat, strict=True))


def total_variation(images: Any) -> Any:
    """Mean absolute difference of neighbouring pixels, (restarts,), of images (restarts, batch, channels, h, w)."""
    across = (images[..., :, 1:] - images[..., :, :-1]).abs().flatten(1).mean(1)
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().flatten(1).mean(1)
    return across + down


def _signed_adam(images: Any, loss: Loss, search: Matching, low: Any, high: Any) -> int:
    import torch

    optimizer = torch.optim.Adam([images], lr=search.learning_rate)
    began, done = time.perf_counter(), 0
    while done < search.iterations:
        progress = done / search.iterations
        if search.seconds is not None:
            progress = max(progress, (time.perf_counter() - began) / search.seconds)
            if progress >= 1:
                break
        for group in optimizer.param_groups:
            group["lr"] = search.learning_rate * (1 + math.cos(math.pi * progress)) / 2
        optimizer.zero_grad()
        loss(images)[1].sum().backward(inputs=[images])
        images.grad.sign_()
        optimizer.step()
        with torch.no_grad():
            images.copy_(torch.maximum(torch.minimum(images, high), low))
        done += 1
    return done


def _lbfgs(images: Any, loss: Loss, search: Matching, low: Any, high: Any) -> int:
    import torch

    # One search each: a common line search would stop all restarts for the worst of them.
    evaluations = 0
    for restart in range(len(images)):
        point = images.detach()[restart : restart + 1].clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [point], lr=search.learning_rate, max_iter=search.iterations, history_size=50, line_search_fn="strong_wolfe"
        )

        def closure(point: Any = point, optimizer: Any = optimizer) -> Any:
            nonlocal evaluations
            evaluations += 1
            optimizer.zero_grad()
            value = loss(point)[1].sum()
            value.backward(inputs=[point])
            return value

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            images[restart] = torch.maximum(torch.minimum(point[0], high), low)
    return evaluations
