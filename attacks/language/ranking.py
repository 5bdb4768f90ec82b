"""By how many bits a language model prefers one secret to the other numbers of its space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...audit.metrics.exposure import exact_exposure, extrapolated_exposure, pessimistic_rank, sampled_exposure
from ...audit.seeds import Seeds
from ...audit.text import TextModel
from .secrets import Slot

MOST_EXACT_DIGITS = 4
"""Spaces up to this are ranked in full; larger ones are sampled, and ranked where few beginnings can matter."""
STRIDE = 3
"""Digits by which a search of a larger space goes on."""
MOST_BEGINNINGS = 64
"""Beginnings of that many digits that such a search follows before it gives up; each costs 111 contexts."""


@dataclass(frozen=True, slots=True)
class Exposed:
    """What the model gives away of one slot. `bits` is its exposure: exact where `rank` is known, or extrapolated where
    the fit passes, or from the sample (its lower limit where no sampled candidate was as likely). `sampled` and
    `extrapolated` are None where they have no value. `hit`: the attack names this secret; `redrawn_hit`: it names a
    number drawn after training, in a slot whose coin was thrown again."""

    slot: Slot
    bits: float
    rank: int | None
    sampled: float | None
    extrapolated: float | None
    greedy: str
    hit: bool
    redrawn_hit: bool

    @property
    def extracted(self) -> bool:
        """Greedy decoding continues the prefix with the secret."""
        return self.greedy == self.slot.secret


def expose(model: TextModel, slot: Slot, fill: float, *, samples: int, top: int, seeds: Seeds) -> Exposed:
    """Rank, estimates from `samples` random numbers, and greedy continuation. Up to 4 digits a hit is a rank of at most
    `top`; beyond, that greedy decoding gives the secret. `fill` is the probability of a slot's coin."""
    digits = len(slot.secret)
    drawn = seeds.generator().integers(10**digits, size=samples)
    again = seeds.at("again").generator()
    other = int(again.integers(10**digits)) if again.random() < fill else None
    ranked = (
        _ranked(model, slot, drawn, other, top) if digits <= MOST_EXACT_DIGITS else _searched(model, slot, drawn, other)
    )
    sampled, low, fitted = _estimates(-ranked.sample, -ranked.own, digits * math.log2(10))
    if ranked.rank is not None:
        bits = exact_exposure(ranked.rank, 10**digits)
    else:
        bits = fitted if fitted is not None else sampled if sampled is not None else low
    return Exposed(slot, bits, ranked.rank, sampled, fitted, ranked.greedy, ranked.hit, ranked.redrawn_hit)


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Log-probabilities of the secret and of a sample of numbers, the rank where it is known, and what was named."""

    own: float
    sample: NDArray[np.float64]
    rank: int | None
    greedy: str
    hit: bool
    redrawn_hit: bool


def _ranked(model: TextModel, slot: Slot, drawn: NDArray[np.int64], other: int | None, top: int) -> _Ranked:
    digits, secret = len(slot.secret), int(slot.secret)
    scores = model.number_log_probabilities(slot.prefix, digits)
    rank = pessimistic_rank(scores, secret)
    redrawn = other is not None and pessimistic_rank(scores, other) <= top
    greedy = model.greedy(slot.prefix, digits)
    return _Ranked(float(scores[secret]), scores[drawn], rank, greedy, rank <= top, redrawn)


def _searched(model: TextModel, slot: Slot, drawn: NDArray[np.int64], other: int | None) -> _Ranked:
    digits, secret = len(slot.secret), int(slot.secret)
    greedy = model.greedy(slot.prefix, digits)
    texts = [f"{number:0{digits}d}" for number in (secret, *drawn)]
    scores = model.continuation_log_probabilities(slot.prefix, texts)
    redrawn = other is not None and greedy == f"{other:0{digits}d}"
    rank = searched_rank(model, slot.prefix, slot.secret)
    return _Ranked(float(scores[0]), scores[1:], rank, greedy, greedy == slot.secret, redrawn)


def searched_rank(model: TextModel, prefix: str, secret: str, beginnings: int = MOST_BEGINNINGS) -> int | None:
    """The secret's exact rank among all numbers of its length, equals counted against it; None where more than
    `beginnings` beginnings would have to be followed.

    A number is never likelier than its beginning, so that only beginnings as likely as the whole secret matter: few
    where the model knows the secret, most where it does not.
    """
    own, place = 0.0, prefix
    for start in range(0, len(secret), STRIDE):
        part = secret[start : start + STRIDE]
        own += float(model.number_log_probabilities(place, len(part))[int(part)])
        place += part
    found = _count(model, prefix, len(secret), 0.0, own, [beginnings])
    return None if found is None else max(1, found)


def _count(model: TextModel, prefix: str, digits: int, before: float, own: float, budget: list[int]) -> int | None:
    """How many numbers of `digits` digits after `prefix`, itself of log-probability `before`, are as likely as `own`;
    None once `budget`, which is counted down, is spent."""
    part = min(STRIDE, digits)
    scores = before + model.number_log_probabilities(prefix, part)
    open_ones = np.flatnonzero(scores >= own)
    if digits == part:
        return len(open_ones)
    budget[0] -= len(open_ones)
    total = 0
    for number in open_ones:
        found = None
        if budget[0] >= 0:
            longer = prefix + f"{number:0{part}d}"
            found = _count(model, longer, digits - part, float(scores[number]), own, budget)
        if found is None:
            return None
        total += found
    return total


def _estimates(losses: NDArray[np.float64], own: float, most: float) -> tuple[float | None, float, float | None]:
    """(sampled, its lower limit, extrapolated): None where there is no value or the fit is rejected. A law has a tail
    below the likeliest candidate, so that what it gives is cut at `most`, the bits of the space."""
    sample, fitted = sampled_exposure(losses, own), extrapolated_exposure(losses, own)
    return sample.value, sample.low, min(most, fitted.value) if fitted.fits else None
