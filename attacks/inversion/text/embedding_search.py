"""Token sequences by matching gradients: embeddings are moved continuously, words are swapped in between."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ....audit.errors import ConfigError, IncompatibleError
from ....audit.seeds import Seeds
from .models import TextModel
from .prose import Bigrams

ABSOLUTE = 0.01
"""Weight of the absolute differences in TAG's distance."""
PROPOSALS = 8
"""Rearrangements tried in one discrete step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSearch:
    """`method` "tag": squared and absolute differences of gradients (Deng et al. 2021, arXiv 2103.06819); "lamp":
    cosine distance, embeddings of usual length, and every `swap_every` steps the best of a few rearrangements by
    gradient and by `language` times the surprise of a bigram model (Balunovic et al. 2022, arXiv 2202.08827).

    `learning_rate` is in standard deviations of the embedding table.
    """

    method: Literal["tag", "lamp"] = "lamp"
    iterations: int = 300
    learning_rate: float = 0.5
    norm: float = 0.1
    language: float = 0.02
    swap_every: int = 25

    def __post_init__(self) -> None:
        if self.method not in ("tag", "lamp"):
            raise ConfigError(f"unknown method {self.method!r}: tag or lamp")
        if min(self.iterations, self.swap_every) < 1:
            raise ConfigError(f"iterations and swap_every must be at least 1, got {self.iterations}, {self.swap_every}")


def watched_parameters(model: TextModel) -> list[Any]:
    """Every parameter but the embeddings, whose gradient would name the tokens by itself."""
    return [p for n, p in model.module.named_parameters() if p.requires_grad and "embeddings" not in n]


def search_tokens(
    model: Any,
    gradients: list[Any],
    labels: Any,
    length: int,
    search: EmbeddingSearch,
    bigrams: Bigrams,
    *,
    seeds: Seeds,
) -> NDArray[np.int64]:
    """Sequences (batch, length) whose gradients of `watched_parameters` are near `gradients`. Labels are known.

    `IncompatibleError` for gradients of another model, `ConfigError` where they are not finite.
    """
    import torch

    parameters = watched_parameters(model)
    _check(gradients, parameters)
    table = model.module.get_input_embeddings().weight.detach()
    spread, usual = float(table.std()), float(table.norm(dim=1).mean())
    distance = _distance(model, parameters, gradients, labels, search.method)
    generator = seeds.at("start").torch_generator()
    points = (torch.randn((len(labels), length, table.shape[1]), generator=generator) * spread).requires_grad_()
    optimizer = torch.optim.Adam([points], lr=search.learning_rate * spread)
    swaps = seeds.at("swaps").generator()
    for step in range(search.iterations):
        progress = step / search.iterations
        optimizer.param_groups[0]["lr"] = search.learning_rate * spread * (1 + math.cos(math.pi * progress)) / 2
        optimizer.zero_grad()
        loss = distance(points, True)
        if search.method == "lamp":
            loss = loss + search.norm * (points.norm(dim=-1).mean() / usual - 1) ** 2
        loss.backward(inputs=[points])
        optimizer.step()
        if search.method == "lamp" and step % search.swap_every == search.swap_every - 1:
            points.data = _rearranged(points.detach(), table, distance, bigrams, search.language, swaps)
    return _nearest(points.detach(), table)


def _check(gradients: list[Any], parameters: list[Any]) -> None:
    if [tuple(g.shape) for g in gradients] != [tuple(p.shape) for p in parameters]:
        raise IncompatibleError(
            f"the {len(gradients)} gradients are not those of the model's {len(parameters)} watched parameters: "
            "a layer is missing or has another shape"
        )
    if not all(bool(g.isfinite().all()) for g in gradients):
        raise ConfigError("the observed gradients have NaN or infinite entries: nothing can be read from them")
    if not any(bool(g.any()) for g in gradients):
        raise ConfigError("the observed gradient is zero everywhere: the batch taught the model nothing")


Distance = Callable[[Any, bool], Any]
"""Embeddings (batch, length, width), and whether a gradient is wanted, to how far their gradients are off."""


def _distance(model: Any, parameters: list[Any], target: list[Any], labels: Any, method: str) -> Distance:
    import torch
    from torch.nn.functional import cross_entropy

    scale = sum(float(t.square().sum()) for t in target)

    def distance(points: Any, differentiable: bool) -> Any:
        logits = model.module(inputs_embeds=points).logits
        found = torch.autograd.grad(cross_entropy(logits, labels), parameters, create_graph=differentiable)
        pairs = list(zip(found, target, strict=True))
        if method == "tag":
            total = sum(
                (g - t).square().sum() + ABSOLUTE * math.sqrt(scale / t.numel()) * (g - t).abs().sum() for g, t in pairs
            )
            return total / scale
        cosines = [(g * t).sum() / (g.norm() * t.norm()).clamp(min=1e-20) for g, t in pairs if bool(t.any())]
        return 1 - sum(cosines) / len(cosines)

    return distance


def _nearest(points: Any, table: Any) -> NDArray[np.int64]:
    """The token (batch, length) whose embedding points most the same way."""
    import torch
    from torch.nn.functional import normalize

    similar = normalize(points, dim=-1) @ normalize(table, dim=-1).T
    return np.asarray(torch.argmax(similar, dim=-1).numpy(), dtype=np.int64)


def _rearranged(
    points: Any, table: Any, distance: Distance, bigrams: Bigrams, language: float, generator: np.random.Generator
) -> Any:
    """The best of the points as they are and a few rearrangements of positions, by gradient and language."""

    def cost(candidate: Any) -> float:
        surprise = float(bigrams.surprise(_nearest(candidate, table)).mean())
        return float(distance(candidate, False).detach()) + language * surprise

    best, least = points, cost(points)
    for _ in range(PROPOSALS):
        candidate = points.clone()
        sequence = int(generator.integers(len(points)))
        candidate[sequence] = points[sequence][_shuffled(points.shape[1], generator)]
        found = cost(candidate)
        if found < least:
            best, least = candidate, found
    return best


def _shuffled(length: int, generator: np.random.Generator) -> list[int]:
    """An order of positions: two swapped, a stretch moved elsewhere, or the end brought to the front."""
    order = list(range(length))
    kind = int(generator.integers(3))
    one, other = sorted(int(k) for k in generator.integers(length, size=2))
    if kind == 0:
        order[one], order[other] = order[other], order[one]
    elif kind == 1:
        stretch, left = order[one : other + 1], order[:one] + order[other + 1 :]
        place = int(generator.integers(len(left) + 1))
        order = left[:place] + stretch + left[place:]
    else:
        order = order[other:] + order[:other]
    return order
