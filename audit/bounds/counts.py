"""What a bound is computed from: integer outcomes of one experiment design each, checked when they are made."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Protocol, Self

from ..errors import ConfigError

MINIMUM_CANARIES = 10
"""Below this many canaries not even a perfect attack certifies epsilon 1 at confidence 0.95."""


class Counts(Protocol):
    """The outcome of one audit design."""

    def perfect(self) -> Self:
        """The outcome of an attack that is never wrong, on the same design."""

    def numbers(self) -> dict[str, float]:
        """Plain numbers for the report."""


@dataclass(frozen=True, slots=True)
class GuessCounts:
    """One model: `canaries` fair coins, `guesses` of them guessed (a number fixed beforehand), `correct` rightly."""

    canaries: int
    guesses: int
    correct: int

    def __post_init__(self) -> None:
        _make_integers(self, "canaries", "guesses", "correct")
        _at_least(self, "canaries", MINIMUM_CANARIES)
        _at_least(self, "guesses", 1)
        _at_most(self, "guesses", "canaries")
        _at_most(self, "correct", "guesses")

    def perfect(self) -> Self:
        """All guesses correct."""
        return replace(self, correct=self.guesses)

    def numbers(self) -> dict[str, float]:
        """The three integers by name."""
        return _numbers(self)


@dataclass(frozen=True, slots=True)
class ConfusionCounts:
    """Independent models: `members` trained with the canary, `nonmembers` without; one fixed threshold for all."""

    true_positives: int
    false_positives: int
    members: int
    nonmembers: int

    def __post_init__(self) -> None:
        _make_integers(self, "true_positives", "false_positives", "members", "nonmembers")
        _at_least(self, "members", 1)
        _at_least(self, "nonmembers", 1)
        _at_most(self, "true_positives", "members")
        _at_most(self, "false_positives", "nonmembers")

    @property
    def false_negatives(self) -> int:
        """Members that were called nonmembers."""
        return self.members - self.true_positives

    def perfect(self) -> Self:
        """All members and no nonmember called inside."""
        return replace(self, true_positives=self.members, false_positives=0)

    def numbers(self) -> dict[str, float]:
        """The four integers by name."""
        return _numbers(self)


@dataclass(frozen=True, slots=True)
class RankCounts:
    """Independent models, each with a canary drawn uniformly from `pool` candidates; a hit is a rank up to `top`."""

    runs: int
    hits: int
    pool: int
    top: int

    def __post_init__(self) -> None:
        _make_integers(self, "runs", "hits", "pool", "top")
        _at_least(self, "runs", 1)
        _check_pool(self)
        _at_most(self, "hits", "runs")

    def perfect(self) -> Self:
        """A hit in every run."""
        return replace(self, hits=self.runs)

    def numbers(self) -> dict[str, float]:
        """The four integers by name."""
        return _numbers(self)


@dataclass(frozen=True, slots=True)
class SlotCounts:
    """One model with `slots` slots, each filled with probability `fill_probability` by a secret drawn uniformly from
    its own `pool` candidates; a hit is a filled slot whose secret has rank at most `top`."""

    slots: int
    hits: int
    fill_probability: float
    pool: int
    top: int

    def __post_init__(self) -> None:
        _make_integers(self, "slots", "hits", "pool", "top")
        _at_least(self, "slots", 1)
        _check_pool(self)
        _at_most(self, "hits", "slots")
        fill = real("fill_probability", self.fill_probability)
        if not 0 < fill < 1:
            raise ConfigError(f"fill_probability must lie strictly between 0 and 1, got {self.fill_probability}")
        object.__setattr__(self, "fill_probability", fill)

    def perfect(self) -> Self:
        """A hit in every filled slot. How many are filled is random: the expected number, or the hits seen if more."""
        return replace(self, hits=max(self.hits, math.floor(self.slots * self.fill_probability)))

    def numbers(self) -> dict[str, float]:
        """The five numbers by name."""
        return _numbers(self)


@dataclass(frozen=True, slots=True)
class GuessSequence:
    """One model: whether each guess was right, most confident first; `canaries` fair coins in all."""

    correct: tuple[bool, ...]
    canaries: int

    def __post_init__(self) -> None:
        _make_integers(self, "canaries")
        object.__setattr__(self, "correct", tuple(_truth(value) for value in _items("correct", self.correct)))
        _at_least(self, "canaries", MINIMUM_CANARIES)
        if not 1 <= len(self.correct) <= self.canaries:
            raise ConfigError(
                f"{len(self.correct)} guesses for {self.canaries} canaries: expected 1 to {self.canaries}"
            )

    def perfect(self) -> Self:
        """As many guesses, all correct."""
        return replace(self, correct=(True,) * len(self.correct))

    def numbers(self) -> dict[str, float]:
        """The sums; the order itself is left out."""
        return {"canaries": self.canaries, "guesses": len(self.correct), "correct": sum(self.correct)}


@dataclass(frozen=True, slots=True)
class PairedOutputs:
    """Pairs of independent models in the order they were trained. `inside[t]` in [0, 1] is the attack's output on the
    t-th model trained with the canary, `outside[t]` on the t-th without; 1 says inside. A guess is 0 or 1."""

    inside: tuple[float, ...]
    outside: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("inside", "outside"):
            values = tuple(real(name, value) for value in _items(name, getattr(self, name)))
            wrong = [value for value in values if not 0 <= value <= 1]
            if wrong:
                raise ConfigError(f"{name} must hold numbers in [0, 1], got {wrong[0]}")
            object.__setattr__(self, name, values)
        if not self.inside or len(self.inside) != len(self.outside):
            raise ConfigError(
                f"inside has {len(self.inside)} values and outside {len(self.outside)}: give pairs, at least one"
            )

    def perfect(self) -> Self:
        """1 on every inside model, 0 on every outside model."""
        return replace(self, inside=(1.0,) * len(self.inside), outside=(0.0,) * len(self.outside))

    def numbers(self) -> dict[str, float]:
        """The number of pairs and the two sums; the order itself is left out."""
        return {"pairs": len(self.inside), "inside": math.fsum(self.inside), "outside": math.fsum(self.outside)}


def real(name: str, value: object) -> float:
    """`value` as a float; a `ConfigError` naming it otherwise."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ConfigError(f"{name} must be a number, got {value!r}") from None


def _items(name: str, values: object) -> list[object]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ConfigError(f"{name} must be a sequence of numbers, got {values!r}")
    return list(values)


def _make_integers(counts: object, *names: str) -> None:
    for name in names:
        value = getattr(counts, name)
        try:
            integer = operator.index(value)
        except TypeError:
            raise ConfigError(f"{name} must be an integer, got {value!r}") from None
        if isinstance(value, bool):
            raise ConfigError(f"{name} must be an integer, got {value!r}")
        if integer < 0:
            raise ConfigError(f"{name} must not be negative, got {integer}")
        object.__setattr__(counts, name, integer)


def _at_least(counts: object, name: str, least: int) -> None:
    value = getattr(counts, name)
    if value < least:
        raise ConfigError(f"{name} must be at least {least}, got {value}")


def _at_most(counts: object, name: str, limit: str) -> None:
    value, most = getattr(counts, name), getattr(counts, limit)
    if value > most:
        raise ConfigError(f"{name} must not exceed {limit} ({most}), got {value}")


def _check_pool(counts: object) -> None:
    _at_least(counts, "pool", 2)
    _at_least(counts, "top", 1)
    _at_most(counts, "top", "pool")


def _truth(value: object) -> bool:
    if value not in (0, 1):
        raise ConfigError(f"correct must hold only 0 and 1, got {value!r}")
    return bool(value)


def _numbers(counts: object) -> dict[str, float]:
    return {field.name: getattr(counts, field.name) for field in fields(counts)}  # type: ignore[arg-type]
