"""Text canaries in language models: inserted among the private rows, and what an observer then sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...audit.accounting import group_claim
from ...audit.canaries import CanarySet, Witnessed
from ...audit.errors import ConfigError, IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import Claim, Progress, Rows, silent
from ..recipe import Recipe
from .canaries import KINDS, TextCanaries, Workshop, craft
from .fitting import Beginning, Extra, Tuning, fit_language, start_of
from .new_tokens import AlikeTokens

if TYPE_CHECKING:
    from pathlib import Path

    from ...audit.types import BoolArray

VIEWS = ("final-model", "steps")
BATCH = 64
"""Canaries scored at a time."""


class HostsTextCanaries:
    """What makes a language trainer a `CanaryHost`: it inserts text canaries by the sampler that real rows go through.

    The trainer has `tuning()` and `nominal_rows`, and, if it makes a claim, `planned_claim(expected_rows)`.
    """

    __slots__ = ()

    def hosts(self) -> tuple[str, ...]:
        """As in `CanaryHost`."""
        return KINDS

    def planned_canary_claim(self, expected_rows: int, canaries: CanarySet) -> Claim | None:
        """As in `CanaryHost`: the claim for groups of as many records as each canary is inserted times."""
        planned = getattr(self, "planned_claim", None)
        if planned is None:
            return None
        return group_claim(planned(expected_rows), repetitions_of(canaries))

    def fit_with_canaries(
        self,
        data: Rows,
        rows: BoolArray,
        canaries: CanarySet,
        *,
        seeds: Seeds,
        device: str,
        checkpoint: Path | None = None,  # noqa: ARG002
        progress: Progress = silent,
    ) -> Witnessed:
        """As in `CanaryHost`. Raises `IncompatibleError` for a view, objective or defence that canaries do not suit."""
        tuning: Tuning = self.tuning()  # type: ignore[attr-defined]
        claim = self.planned_canary_claim(0, canaries)
        return host_text_canaries(tuning, data, rows, canaries, claim, seeds=seeds, device=device, progress=progress)


def host_text_canaries(
    tuning: Tuning,
    data: Rows,
    rows: BoolArray,
    canaries: CanarySet,
    claim: Claim | None,
    *,
    seeds: Seeds,
    device: str,
    progress: Progress = silent,
) -> Witnessed:
    """Fine-tune on `data.take(rows)` and the inserted canaries; what the observer sees, without the coins.

    View "final-model": `transcript["own"]`, float64 (canaries,), ln P of the scored tokens under the fine-tuned model;
    for new tokens also `["others"]`, the mean over the other new tokens at the same place; and both under the model
    before fine-tuning, `["own-before"]` and `["others-before"]`. View "steps": `transcript["projections"]`, float32
    (steps, canaries), in units of the clipping norm.
    """
    _check(tuning, canaries)
    made = crafted(tuning.beginning, canaries, seeds=seeds, device=device)
    copies = repetitions_of(canaries)
    chosen = np.repeat(np.flatnonzero(canaries.inside), copies)
    extra = extra_of(made, chosen)
    # Public: what the coins promise, not what they gave.
    expected = float(canaries.parameters.get("expected", len(canaries.inside) / 2)) * copies
    tuning = replace(tuning, recipe=room_for(tuning.recipe, expected))
    start = start_of(tuning, extra, seeds=seeds, device=device)
    observer = None
    if canaries.view == "steps":
        from .observer import StepObserver

        observer = StepObserver(tuning, extra, made, seeds=seeds, device=device)
    tuned = fit_language(tuning, data, rows, seeds=seeds, device=device, extra=extra, progress=progress, watch=observer)
    public = _public(tuning.recipe, tuned.steps)
    if observer is not None:
        return Witnessed({"projections": observer.projections()}, claim, public, observer.metrics())
    seen: dict[str, Any] = probabilities(tuned.target.model, made, device)
    before = probabilities(start.eval(), made, device)
    return Witnessed(seen | {f"{name}-before": values for name, values in before.items()}, claim, public)


def extra_of(made: TextCanaries, chosen: NDArray[np.integer[Any]]) -> Extra:
    """The canaries at positions `chosen` as records, and room in the vocabulary for the new tokens of all of them."""
    if made.first_new is None:
        return Extra(made.tokens[chosen])
    return Extra(made.tokens[chosen], len(made.tokens), AlikeTokens(len(made.tokens)))


def _check(tuning: Tuning, canaries: CanarySet) -> None:
    if canaries.view not in VIEWS:
        raise ConfigError(f"canaries: view must be one of {', '.join(VIEWS)}, got {canaries.view!r}")
    if tuning.beginning.size.objective != "causal":
        raise IncompatibleError(
            "language: text canaries are scored by the next token, but objective is 'masked': use objective = 'causal'"
        )
    if tuning.defences is not None:
        raise IncompatibleError(
            "language: text canaries are inserted as tokens, past scrub, randomise and deduplicate: take these out of "
            "the trainer, or audit it with 'secret-exposure'"
        )


def repetitions_of(canaries: CanarySet) -> int:
    """How often each canary is inserted if its coin says so."""
    return int(canaries.parameters.get("repetitions", 1))


def crafted(beginning: Beginning, canaries: CanarySet, *, seeds: Seeds, device: str) -> TextCanaries:
    """The canaries asked for; they do not depend on the coins. With a parameter `pool_seed` they follow from it alone,
    so that many runs share them."""
    pool = canaries.parameters.get("pool_seed")
    source = seeds.at("canaries") if pool is None else Seeds(int(pool))
    own = ("expected", "pool_seed", "repetitions")
    parameters = tuple(sorted((k, v) for k, v in canaries.parameters.items() if k not in own))
    return _crafted(beginning, canaries.kind, len(canaries.inside), parameters, source, device)


@lru_cache(maxsize=4)
def _crafted(
    beginning: Beginning, kind: str, count: int, parameters: tuple[tuple[str, Any], ...], seeds: Seeds, device: str
) -> TextCanaries:
    return craft(kind, count, dict(parameters), Workshop(beginning, device), seeds=seeds)


def room_for(recipe: Recipe, expected: float) -> Recipe:
    """The recipe with public room for `expected` more rows: a larger batch at the same sampling rate, number of steps
    and noise, so that the claim of the run is the trainer's own. Without public sizes nothing is changed."""
    if recipe.nominal_rows is None:
        return recipe
    rate, steps = recipe.sample_rate(0), recipe.steps(0)
    batch = max(1, round(rate * (recipe.nominal_rows + expected)))
    # Rounded up, so that the rate of the run is never above the one that the claim was made for.
    rows = ceil(batch / rate - 1e-9)
    # Just under the whole number of steps, which a schedule may round up.
    return replace(recipe, nominal_rows=rows, batch_size=batch, epochs=(steps - 1e-6) * batch / rows)


def _public(recipe: Recipe, steps: int) -> Mapping[str, float]:
    noise = recipe.protection.noise_multiplier if recipe.protection else 0.0
    rate = recipe.sample_rate(0) if recipe.nominal_rows else 0.0
    return {"sample_rate": rate, "steps": float(steps), "noise_multiplier": noise}


def probabilities(model: Any, canaries: TextCanaries, device: str) -> dict[str, NDArray[np.float64]]:
    """`own` (canaries,): ln P of the scored tokens; with new tokens also `others`."""
    if canaries.first_new is not None:
        return _new_token_probabilities(model, canaries, device)
    import torch

    width = int(np.flatnonzero(canaries.scored.any(axis=0))[-1]) + 1
    tokens, scored = canaries.tokens[:, :width], canaries.scored[:, :width]
    out = np.zeros(len(tokens))
    with torch.no_grad():
        for first in range(0, len(tokens), BATCH):
            here = torch.from_numpy(tokens[first : first + BATCH]).to(device)
            logs = model(here[:, :-1]).double().log_softmax(-1)
            told = logs.gather(2, here[:, 1:, None])[..., 0].cpu().numpy()
            out[first : first + BATCH] = np.where(scored[first : first + BATCH, 1:], told, 0.0).sum(axis=1)
    return {"own": out}


def _new_token_probabilities(model: Any, canaries: TextCanaries, device: str) -> dict[str, NDArray[np.float64]]:
    """Each different beginning is read once, and tells the probability of every new token after it."""
    import torch

    assert canaries.first_new is not None
    count, place = len(canaries.tokens), int(np.flatnonzero(canaries.scored[0])[0])
    beginnings, which = np.unique(canaries.tokens[:, :place], axis=0, return_inverse=True)
    rows: list[NDArray[np.float64]] = []
    with torch.no_grad():
        for part in torch.split(torch.from_numpy(beginnings).to(device), BATCH):
            logs = model(part)[:, -1].double().log_softmax(-1)
            rows.append(logs[:, canaries.first_new : canaries.first_new + count].cpu().numpy())
    table = np.concatenate(rows)
    which = which.reshape(-1)
    own = table[which, np.arange(count)]
    return {"own": own, "others": (table.sum(axis=1)[which] - own) / max(1, count - 1)}
