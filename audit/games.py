"""Attacks that play a game of their own: reconstruction, extraction, inference of attributes.

A game draws its victims or secrets itself, from streams the runner gives it, and reports how often it succeeded next
to what somebody without the model would have achieved. It never judges: counts go to a bound that the runner calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from .seeds import Seeds
from .types import Access, Adjacency, BoolArray, Claim, Needs, Progress, Rows, Trained, Unit, silent


@dataclass(frozen=True, slots=True)
class Measure:
    """One measured quantity with its interval at the audit's confidence, and the number of independent victims `n`.

    `baseline` is what an attacker without the model reaches (its `name` says who). `better` is the direction that is
    better for privacy. A `value` of None is not measurable, and `reason` says why.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    baseline: Measure | None = None
    unit: str | None = None
    better: Literal["lower", "higher"] | None = "lower"
    name: str | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The shape of `metrics.measures` in a finding."""
        interval = {"value": self.value, "low": self.low, "high": self.high}
        base = self.baseline
        return {
            **interval,
            "n": self.n,
            "baseline": base
            and {"value": base.value, "low": base.low, "high": base.high, **({"name": base.name} if base.name else {})},
            "unit": self.unit,
            "better": self.better,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Example:
    """One victim. Image: arrays (channels, height, width) with values in [0, 1]; text: a string; tabular: a mapping.

    Hidden in every report unless it is made with --reveal; `label` is always shown, so it never tells who it is.
    """

    kind: Literal["image", "text", "tabular"]
    label: str
    original: Any
    reconstruction: Any
    score: float | None = None
    score_name: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The shape of `examples` in a finding: images as integers 0..255, (height, width[, 3])."""
        out: dict[str, Any] = {
            "kind": self.kind,
            "label": self.label,
            "original": self._plain(self.original),
            "reconstruction": self._plain(self.reconstruction),
            "score": self.score,
        }
        return out | ({"score_name": self.score_name} if self.score_name else {})

    def _plain(self, value: Any) -> Any:
        if self.kind != "image" or value is None:
            return value
        pixels = np.clip(np.rint(np.asarray(value, dtype=np.float64) * 255), 0, 255).astype(int)
        return pixels[0].tolist() if len(pixels) == 1 else np.moveaxis(pixels, 0, -1).tolist()


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot, with an optional band."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """A plot: titles in plain English, lines, scales."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    x_scale: Literal["linear", "log"] = "linear"
    y_scale: Literal["linear", "log"] = "linear"

    def to_json(self) -> dict[str, Any]:
        """The shape of `series` in a finding."""
        lines = [{k: v for k, v in asdict(line).items() if v is not None} for line in self.lines]
        return {**{k: v for k, v in asdict(self).items() if k != "lines"}, "lines": lines}


@dataclass(frozen=True, slots=True)
class Trials:
    """What a bound is to be computed from: the method's name, its counts object (`audit.bounds.counts`), and the claim
    and delta it is tested against, all but the hits fixed before the game. `claim` None: the trainer's own. With
    `group` above 1 a hit concerns so many records together: such a bound is never compared with a claim on one, and
    without a claim on groups it is not reported at all, so that nobody reads it as one on records.

    `redrawn` are the counts of the same answers against truths drawn afresh after the game, which no model has seen:
    the negative control, which must certify nothing. None: the game has none.

    In a game of several parts `measures` names the game's measures that are about this part alone: the findings of
    other parts leave them out."""

    method: str
    counts: Any
    delta: float
    claim: Claim | None = None
    unit: Unit = Unit.RECORD
    adjacency: Adjacency = Adjacency.ADD_REMOVE
    group: int = 1
    redrawn: Any = None
    measures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a game gave. `threat` says in words what the attacker holds and knows; it is printed beside the numbers.

    `informative` is False where the model learned nothing that could leak, or the game could not have succeeded.
    A game with several designs in one training has `parts` in place of `trials`: each is a finding of its own, tested
    with an equal share of the attack's alpha.
    """

    measures: Mapping[str, Measure]
    threat: Mapping[str, str]
    trials: Trials | None = None
    parts: Mapping[str, Trials] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    series: tuple[Series, ...] = ()
    informative: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a game is played: the trainer under audit, public rows, the audit's own rows (candidates and victims; the
    target was trained on `private.take(inside)`), and the trained target on demand.

    `folder` is the game's own, for intermediate results, so that a resumed game repeats little. `claim` is the
    trainer's.
    """

    trainer: Any
    population: Rows
    private: Rows
    inside: BoolArray
    target: Callable[[], Trained]
    claim: Claim | None
    access: Access
    device: str
    confidence: float
    folder: Path
    progress: Progress = silent
    options: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Game(Protocol):
    """An attack with `play` in place of `score`. A frozen dataclass; its constructor is its configuration schema.

    A class attribute `needs_target = False` says that it trains models of its own only; a method `planned(trainer)`
    gives `Trials`, or those of each part by name, with the hits of a perfect attack, for the plan. `family` is the
    first part of its findings' rule: `inversion`, `extraction`, `exposure`, `attribute`.
    """

    name: ClassVar[str]
    family: ClassVar[str]

    @property
    def needs(self) -> Needs:
        """The access it uses."""

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """Play the whole game and report."""
