"""The zero-noise sensitivity probe: how far one aggregated step moves when one unit joins, leaves or changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import ConfigError
from ..seeds import Seeds
from ..types import Adjacency, FloatArray
from .record import CheckResult

TOLERANCE = 1e-3
"""Relative slack for single-precision steps."""

_SIZES = (1.0, 10.0, 1e6)


class Step(Protocol):
    """One aggregation as the mechanism does it."""

    def __call__(self, gradients: FloatArray, *, noise: bool) -> FloatArray:
        """Per-unit gradients (units, dimension), possibly none, to the released update (dimension,).

        `noise` off leaves everything else as it is: clipping, weighting, division.
        """


@dataclass(frozen=True, slots=True)
class _Scene:
    """Two neighbouring batches."""

    name: str
    before: FloatArray
    after: FloatArray


def probe_sensitivity(
    step: Step,
    *,
    clip: float,
    dimension: int,
    seeds: Seeds,
    divisor: float = 1.0,
    adjacency: Adjacency = Adjacency.ADD_REMOVE,
    units: int = 8,
) -> list[CheckResult]:
    """`probe.sensitivity`, `probe.non-finite` and `probe.empty-batch` for `step` with its noise off.

    The claim is that one unit moves the sum by at most `clip` (2 clip under replace-one), so the released update by
    that over `divisor`, the public number it divides by. The probe plays large gradients against opposing ones, one
    coordinate at a time and in random directions, on empty, single and `units`-sized batches, and reports the
    largest move. What it measures is a fact, so a move above the claim is a proof and needs no confidence; a small
    one is not a proof of the opposite.
    """
    if not clip > 0 or not divisor > 0 or dimension < 1 or units < 2:
        raise ConfigError(
            "the probe needs clip > 0, divisor > 0, dimension >= 1 and units >= 2, "
            f"got {clip}, {divisor}, {dimension}, {units}"
        )
    claimed = clip * (2 if adjacency is Adjacency.REPLACE_ONE else 1) / divisor
    empty = _probe_empty(step, dimension)
    worst, move = "nothing", 0.0
    for scene in _scenes(clip, dimension, adjacency, units, seeds, with_empty=bool(empty.passed)):
        distance = _distance(step, scene)
        if not distance <= move:
            worst, move = scene.name, distance
    passed = move <= claimed * (1 + TOLERANCE)
    detail = f"one unit moved the update by {move:.6g} ({worst}), claimed at most {claimed:.6g}"
    return [
        CheckResult("probe.sensitivity", passed, detail, move, claimed),
        _probe_non_finite(step, clip, dimension, claimed, units),
        empty,
    ]


def _scenes(
    clip: float, dimension: int, adjacency: Adjacency, units: int, seeds: Seeds, *, with_empty: bool
) -> Iterator[_Scene]:
    rng = seeds.at("probe", "sensitivity").generator()
    for name, direction in _directions(dimension, rng).items():
        for size in _SIZES:
            large = size * clip * direction
            bases: dict[str, FloatArray] = {
                "against one opposing": -large[None],
                f"against {units} opposing": np.repeat(-large[None], units, axis=0),
                f"beside {units} alike": np.repeat(large[None], units, axis=0),
                f"beside {units} zero": np.zeros((units, dimension)),
                f"beside {units} random": clip * rng.standard_normal((units, dimension)),
            }
            if with_empty:
                bases["alone"] = np.zeros((0, dimension))
            for where, base in bases.items():
                label = f"{name} of norm {size:g} clip, {where}"
                yield _Scene(label, *_neighbours(base, large, adjacency))


def _neighbours(base: FloatArray, unit: FloatArray, adjacency: Adjacency) -> tuple[FloatArray, FloatArray]:
    with_unit = np.concatenate([base, unit[None]])
    if adjacency is Adjacency.ADD_REMOVE:
        return base, with_unit
    other = -unit if adjacency is Adjacency.REPLACE_ONE else np.zeros_like(unit)
    return np.concatenate([base, other[None]]), with_unit


def _directions(dimension: int, rng: np.random.Generator, most: int = 16) -> Mapping[str, FloatArray]:
    """Unit vectors: the diagonal, a random one, and coordinates from first to last (an unclipped bias hides there)."""
    random = rng.standard_normal(dimension)
    chosen = np.unique(np.round(np.linspace(0, dimension - 1, min(dimension, most))).astype(int))
    named = {f"coordinate {i}": np.eye(1, dimension, int(i))[0] for i in chosen}
    return {
        "diagonal gradient": np.full(dimension, dimension**-0.5),
        "random gradient": random / np.linalg.norm(random),
        **named,
    }


def _distance(step: Step, scene: _Scene) -> float:
    difference = np.asarray(step(scene.after, noise=False), float) - np.asarray(step(scene.before, noise=False), float)
    distance = float(np.linalg.norm(difference))
    return distance if np.isfinite(distance) else float("inf")


def _probe_non_finite(step: Step, clip: float, dimension: int, claimed: float, units: int) -> CheckResult:
    """One unit with overflowing, infinite or undefined entries must not move the update further than any other."""
    base = np.full((units, dimension), clip / dimension**0.5)
    bad = []
    for name, value in (("1e30", 1e30), ("infinite", np.inf), ("undefined", np.nan)):
        unit = np.zeros(dimension)
        unit[0] = value
        with np.errstate(all="ignore"):
            distance = _distance(step, _Scene(name, *_neighbours(base, unit, Adjacency.ADD_REMOVE)))
        # A unit may be dropped or clipped; under add-remove both stay within the claim.
        if not distance <= claimed * (1 + TOLERANCE):
            bad.append(name)
    detail = f"a gradient entry breaks the clipping if it is: {', '.join(bad)}" if bad else "bad entries are contained"
    return CheckResult("probe.non-finite", not bad, detail)


def _probe_empty(step: Step, dimension: int) -> CheckResult:
    """Poisson sampling draws empty batches: they must step like any other, or their absence tells."""
    rule = "probe.empty-batch"
    try:
        update = np.asarray(step(np.zeros((0, dimension)), noise=False), float)
    except Exception as error:
        return CheckResult(rule, False, f"an empty batch raises {type(error).__name__}: {error}")
    passed = update.shape == (dimension,) and not update.any()
    return CheckResult(rule, passed, "an empty batch sums to zero" if passed else "an empty batch has an update")
