"""Exact sequences by span tests: layer one tells which tokens stand where, layer two which of them belong together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....audit.seeds import Seeds
from .models import TextModel
from .subspace import Subspace, input_space

OUTSIDE = 1e-3
"""Share of norm outside the space above which an input is no input of the batch. Single precision leaves 1e-6 to 1e-5;
a wrong input is outside by about the square root of 1 - rank / width."""
MOST = 64
"""Candidate tokens kept a position, best first: more mean that the test is blind."""
SWEEPS, STARTS = 8, 12
"""When an encoder's sequences are put together: passes over all positions, and random starts a sequence."""


@dataclass(frozen=True, slots=True)
class SpanResult:
    """Sequences (found, length) in no particular order, and per position the tokens that passed the first test."""

    sequences: NDArray[np.int64]
    candidates: tuple[NDArray[np.int64], ...]
    blind: bool


def span_attack(
    model: TextModel,
    gradients: tuple[Any, Any],
    *,
    batch: int,
    length: int,
    seeds: Seeds,
    soft: bool = False,
    chunk: int = 4096,
) -> SpanResult:
    """Every sequence of a batch, from the gradients of the first two layers. Batch size and length are known.

    With as many tokens as the model is wide every input fits: the result is blind and empty. `soft` ranks by distance
    from the strongest directions instead of testing it, which bears some noise (the idea of TIGER, arXiv 2606.18312):
    the `batch` closest tokens of each position and the `batch` closest sequences are taken, right or wrong.
    """
    import torch

    tokens = batch * length
    if tokens >= model.width:
        return SpanResult(np.zeros((0, length), np.int64), (), True)
    first, second = (input_space(g, tokens=tokens) for g in gradients)
    with torch.no_grad():
        limit, most = (math.inf, batch) if soft else (OUTSIDE, MOST)
        candidates = tuple(
            tokens_at(model, first, position, limit=limit, most=most, chunk=chunk) for position in range(length)
        )
        if first.blind or any(not len(c) for c in candidates):
            return SpanResult(np.zeros((0, length), np.int64), candidates, first.blind)
        if model.causal:
            return SpanResult(_causal(model, second, candidates, batch, limit), candidates, False)
        found = _bidirectional(model, second, candidates, batch, limit, seeds.at("starts").generator())
        return SpanResult(found, candidates, False)


def tokens_at(
    model: TextModel, space: Subspace, position: int, *, limit: float, most: int, chunk: int
) -> NDArray[np.int64]:
    """Tokens whose first-layer input at `position` is outside the space by less than `limit`, closest first."""
    import torch

    parts = []
    for start in range(0, model.vocabulary, chunk):
        tokens = torch.arange(start, min(start + chunk, model.vocabulary))
        parts.append(space.distance(model.first_inputs(tokens, position).double()))
    distances = torch.cat(parts)
    order = distances.argsort()[:most]
    return np.asarray(order[distances[order] < limit].numpy(), dtype=np.int64)


def _causal(
    model: TextModel, space: Subspace, candidates: tuple[NDArray[np.int64], ...], batch: int, limit: float
) -> NDArray[np.int64]:
    """Prefixes grow by one token: what layer two sees of a token depends on the tokens before it only."""
    import torch

    prefixes = torch.zeros((1, 0), dtype=torch.int64)
    for choices in candidates:
        tokens = torch.from_numpy(choices)
        grown = torch.cat(
            [prefixes.repeat_interleave(len(tokens), dim=0), tokens.repeat(len(prefixes)).unsqueeze(1)], dim=1
        )
        outside = space.distance(model.second_inputs(grown)[:, -1].double())
        order = outside.argsort()
        # Two sequences may share a prefix, so there are at most `batch` of them, and never a wrong one inside.
        kept = order[outside[order] < limit][:batch]
        if not len(kept):
            return np.zeros((0, len(candidates)), np.int64)
        prefixes = grown[kept]
    return prefixes.numpy()


def _bidirectional(
    model: TextModel,
    space: Subspace,
    candidates: tuple[NDArray[np.int64], ...],
    batch: int,
    limit: float,
    generator: Any,
) -> NDArray[np.int64]:
    """Whole sequences, improved token by token: what layer two sees depends on all tokens, the fewer wrong the closer.

    A sequence once found takes its tokens with it, where exactly one candidate a sequence is left at each position.
    """
    import torch

    left = [list(map(int, c)) for c in candidates]
    found: list[NDArray[np.int64]] = []
    for _ in range(STARTS * batch):
        if len(found) == batch or not all(left):
            break
        start = np.array([generator.choice(choices) for choices in left])
        sequence, outside = _improved(model, space, left, torch.from_numpy(start))
        if outside >= limit or any((sequence.numpy() == other).all() for other in found):
            continue
        found.append(sequence.numpy())
        for position, choices in enumerate(left):
            if len(choices) == batch - len(found) + 1:
                choices.remove(int(sequence[position]))
    return np.array(found, np.int64).reshape(-1, len(candidates))


def _improved(model: TextModel, space: Subspace, candidates: list[list[int]], sequence: Any) -> tuple[Any, float]:
    """Passes over all positions, each time the token that brings the whole sequence closest, until nothing improves.

    The mean over tokens leads the way; the worst token, which is returned, tells whether it is a sequence of the batch:
    two tokens that changed places move the others little.
    """
    import torch

    best, worst = float("inf"), float("inf")
    for _ in range(SWEEPS):
        before = best
        for position, choices in enumerate(candidates):
            trial = sequence.repeat(len(choices), 1)
            trial[:, position] = torch.tensor(choices)
            outside = space.distance(model.second_inputs(trial).double())
            closest = int(outside.mean(dim=1).argmin())
            sequence, best, worst = trial[closest], float(outside[closest].mean()), float(outside[closest].max())
        if worst < OUTSIDE or best >= before:
            break
    return sequence, worst
