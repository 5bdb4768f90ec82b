"""What the game of secrets reports: medians, shares, estimators, pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...audit.games import Example, Line, Measure, Series
from ...audit.metrics.exposure import exact_exposure, median_interval
from ...audit.metrics.intervals import binomial_interval
from .ranking import Exposed
from .secrets import Slot


@dataclass(frozen=True, slots=True)
class Cell:
    """Slots of one number of digits and one repetition count; `sized` where there are others with other digits."""

    digits: int
    repetitions: int
    sized: bool

    @property
    def name(self) -> str:
        """The name of its finding."""
        return f"{self.digits}-digits/{self.repetitions}x" if self.sized else f"{self.repetitions}x"

    @property
    def label(self) -> str:
        """The end of its measures' names."""
        return f"{self.digits}_digits_{self.repetitions}x" if self.sized else f"{self.repetitions}x"

    def has(self, slot: Slot) -> bool:
        """Whether the slot is one of these."""
        return len(slot.secret) == self.digits and slot.repetitions == self.repetitions


def cell_measures(here: Sequence[Exposed], cell: Cell, confidence: float) -> dict[str, Measure]:
    """Median exposure and share extracted of the filled slots in `here`, beside those never inserted."""
    inside = [e for e in here if e.slot.filled]
    outside = [e for e in here if not e.slot.filled]
    median, extracted = f"median_exposure_{cell.label}", f"extracted_{cell.label}"
    if not inside:
        return {median: Measure(None, reason="no slot was filled")}
    baseline = None
    if outside:
        middle = median_interval(np.array([e.bits for e in outside]), confidence)
        baseline = Measure(*middle, n=len(outside), name="secrets never inserted")
    middle = median_interval(np.array([e.bits for e in inside]), confidence)
    share = binomial_interval(sum(e.extracted for e in inside), len(inside), confidence)
    chance = Measure(10.0**-cell.digits, name="guessing")
    return {
        median: Measure(*middle, n=len(inside), baseline=baseline, unit="bits"),
        extracted: Measure(share.value, share.low, share.high, len(inside), chance),
    }


def estimator_measures(exposed: Sequence[Exposed], suffix: str) -> dict[str, Measure]:
    """For one number of digits: how many ranks are known, how often each estimator has a value, and its median distance
    from the exact exposure where that is known too. Filled and empty slots alike."""
    known = [e for e in exposed if e.rank is not None]
    out = {f"exact_rank_available{suffix}": Measure(_share(len(known), len(exposed)), n=len(exposed), better=None)}
    for name in ("sampled", "extrapolated"):
        values = [getattr(e, name) for e in exposed]
        have = sum(value is not None for value in values)
        out[f"{name}_exposure_available{suffix}"] = Measure(_share(have, len(exposed)), n=len(exposed), better=None)
        gaps = [abs(getattr(e, name) - exact(e)) for e in known if getattr(e, name) is not None]
        if gaps:
            gap = float(np.median(gaps))
            out[f"{name}_exposure_error{suffix}"] = Measure(gap, n=len(gaps), unit="bits", better=None)
    return out


def exact(exposed: Exposed) -> float:
    """Exposure by the rank, which is known."""
    assert exposed.rank is not None
    return exact_exposure(exposed.rank, 10 ** len(exposed.slot.secret))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def examples(exposed: Sequence[Exposed]) -> tuple[Example, ...]:
    """The most exposed filled slot of every number of digits and repetition count."""
    cells = sorted({(len(e.slot.secret), e.slot.repetitions) for e in exposed if e.slot.filled})
    members = ([e for e in exposed if e.slot.filled and (len(e.slot.secret), e.slot.repetitions) == c] for c in cells)
    return tuple(_example(max(each, key=lambda e: e.bits)) for each in members)


def _example(exposed: Exposed) -> Example:
    slot = exposed.slot
    label = f"most exposed of {len(slot.secret)} digits inserted {slot.repetitions} times"
    return Example("text", label, slot.text, slot.prefix + exposed.greedy, exposed.bits, "bits of exposure")


def histogram(exposed: Sequence[Exposed], repetitions: Sequence[int], digits: int) -> Series:
    """Share of secrets of so many digits by whole bits of exposure, one line a repetition count and one for those never
    inserted."""
    here = [e for e in exposed if len(e.slot.secret) == digits]
    groups = {
        f"inserted {c} times": [e for e in here if e.slot.filled and e.slot.repetitions == c] for c in repetitions
    }
    groups["never inserted"] = [e for e in here if not e.slot.filled]
    edges = np.arange(0, math.ceil(digits * math.log2(10)) + 1)
    lines = []
    for name, members in groups.items():
        if members:
            counted = np.histogram([e.bits for e in members], edges)[0] / len(members)
            lines.append(Line(name, tuple(edges[:-1] + 0.5), tuple(float(c) for c in counted)))
    return Series(f"Exposure of secrets of {digits} digits", "bits of exposure", "share of secrets", tuple(lines))
