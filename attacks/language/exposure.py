"""How far a language model gives away secrets that were in its training text, by how often they were."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...audit.accounting import group_claim
from ...audit.bounds.counts import SlotCounts
from ...audit.errors import IncompatibleError
from ...audit.games import Example, Line, Measure, Outcome, Series, Stage, Trials
from ...audit.metrics.exposure import (
    exact_exposure,
    extrapolated_exposure,
    median_interval,
    pessimistic_rank,
    sampled_exposure,
)
from ...audit.metrics.intervals import binomial_interval
from ...audit.seeds import Seeds
from ...audit.text import TextModel, TextTrainer
from ...audit.types import Access, Claim, Needs, Trained
from ..parameters import require_integer, require_number
from .secrets import Slot, draw_slots, split_template, with_secrets

MOST_EXACT_DIGITS = 4
"""Spaces up to this are ranked in full; larger ones are sampled."""


@dataclass(frozen=True, slots=True)
class Exposed:
    """What the model gives away of one slot. `bits` is its exposure: exact, or extrapolated where the fit passes, or
    from the sample (its lower limit where no sampled candidate was as likely). `sampled` and `extrapolated` are None
    where they have no value. `hit`: the attack names this secret."""

    slot: Slot
    bits: float
    sampled: float | None
    extrapolated: float | None
    greedy: str
    hit: bool

    @property
    def extracted(self) -> bool:
        """Greedy decoding continues the prefix with the secret."""
        return self.greedy == self.slot.secret


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretExposure:
    """Train with secrets in the text and measure exposure (Carlini et al. 2019, arXiv 1802.08232) and extraction by
    greedy continuation of the prefix (Carlini et al. 2023, arXiv 2202.07646).

    For each count in `repetitions` there are `slots` sentences of `template`, each with a number of `digits` digits
    drawn uniformly, inserted so many times if the slot's own coin (probability `fill_probability`) says so; the real
    rows stay as they are. Up to 4 digits all numbers are ranked; beyond, `samples` random ones give an interval and a
    skew-normal extrapolation. The bound is `k-ary-markov`, one finding a repetition count, each against the claim for
    groups of that size. A hit is a filled slot whose secret is among the `top` most likely numbers (beyond 4 digits: is what
    greedy decoding says; `top` is 1). `alpha_share` is shared out equally.
    """

    name: ClassVar[str] = "secret-exposure"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "exposure"

    digits: int = 4
    repetitions: tuple[int, ...] = (1, 4, 16)
    slots: int = 43
    fill_probability: float = 0.5
    top: int = 1
    samples: int = 2000
    template: str = "The pass code of {name} is {secret}."

    def __post_init__(self) -> None:
        for key, least in (("digits", 1), ("slots", 2), ("top", 1), ("samples", 100)):
            require_integer(self.name, key, getattr(self, key), least=least)
        for count in self.repetitions:
            require_integer(self.name, "repetitions", count, least=1)
        require_number(self.name, "fill_probability", self.fill_probability, low=0.01, high=0.99)
        split_template(self.template)
        if self.digits > MOST_EXACT_DIGITS and self.top > 1:
            raise IncompatibleError(
                f"attack {self.name!r}: top must be 1 beyond {MOST_EXACT_DIGITS} digits, got {self.top}: not all "
                "numbers are ranked"
            )

    @property
    def needs(self) -> Needs:
        """Probabilities of the next token."""
        return Needs(access=Access.LOGITS)

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """As in `Game`. Raises `IncompatibleError` for a trainer whose models are no language models."""
        if not isinstance(stage.trainer, TextTrainer):
            raise IncompatibleError(f"attack {self.name!r} needs a trainer of language models, such as 'language'")
        slots = draw_slots(self.template, self.digits, self.repetitions, self.slots, self.fill_probability, seeds=seeds)
        data, inside = with_secrets(stage.private, stage.inside, slots)
        trainer: Any = self._sized(stage.trainer, len(stage.private))
        trained: Trained = trainer.fit(data, inside, seeds=seeds.at("model"), device=stage.device)
        model: Any = trained.target
        assert isinstance(model, TextModel)
        exposed = []
        for number, slot in enumerate(slots):
            exposed.append(self._expose(model, slot, seeds.at("sample", number)))
            stage.progress(number + 1, len(slots))
        quality = trainer.perplexities(trained, data, inside, stage.population, device=stage.device)
        return self._outcome(exposed, quality, trained.claim, stage.confidence)

    def _sized(self, trainer: Any, candidates: int) -> Any:
        """The trainer with an open `nominal_rows` filled in by the expected number of rows, secrets included."""
        if not is_dataclass(trainer) or getattr(trainer, "nominal_rows", 0) is not None:
            return trainer
        copies = round(self.fill_probability * self.slots * sum(self.repetitions))
        return replace(trainer, nominal_rows=candidates // 2 + copies)  # type: ignore[type-var]

    def _expose(self, model: TextModel, slot: Slot, seeds: Seeds) -> Exposed:
        greedy = model.greedy(slot.prefix, self.digits)
        secret, most = int(slot.secret), self.digits * math.log2(10)
        if self.digits > MOST_EXACT_DIGITS:
            drawn = seeds.generator().integers(10**self.digits, size=self.samples)
            texts = [f"{number:0{self.digits}d}" for number in (secret, *drawn)]
            losses = -model.continuation_log_probabilities(slot.prefix, texts)
            sampled, low, fitted = _estimates(losses[1:], float(losses[0]), most)
            found = fitted if fitted is not None else sampled if sampled is not None else low
            return Exposed(slot, found, sampled, fitted, greedy, greedy == slot.secret)
        losses = -model.number_log_probabilities(slot.prefix, self.digits)
        rank = pessimistic_rank(-losses, secret)
        drawn = seeds.generator().integers(len(losses), size=self.samples)
        sampled, _, fitted = _estimates(losses[drawn], float(losses[secret]), most)
        return Exposed(slot, exact_exposure(rank, len(losses)), sampled, fitted, greedy, rank <= self.top)

    def _outcome(
        self, exposed: list[Exposed], quality: Mapping[str, float], claim: Claim | None, confidence: float
    ) -> Outcome:
        measures: dict[str, Measure] = {}
        for count in self.repetitions:
            measures |= self._measures(count, [e for e in exposed if e.slot.repetitions == count], confidence)
        measures |= _estimators([e for e in exposed if e.slot.filled], exact=self.digits <= MOST_EXACT_DIGITS)
        measures |= _perplexities(quality)
        others = [value for name, value in quality.items() if name != "model"]
        parts = {_times(count): trials for count in self.repetitions if (trials := self._trials(exposed, count, claim))}
        learned = quality["model"] < min(others)
        notes = () if learned else ("the model predicts held-out text no better than its baselines do",)
        return Outcome(
            measures=measures,
            threat={
                "holds": "the trained model's probabilities of the next token",
                "knows": f"every sentence but its {self.digits} digits, which are drawn uniformly",
                "assumes": f"each sentence was inserted with probability {self.fill_probability:g}",
                "measures": "bits of exposure, and greedy continuation of the text before the digits",
            },
            parts=parts,
            examples=tuple(_example(e) for e in _most_exposed(exposed)),
            series=(_histogram(exposed, self.repetitions, self.digits),),
            informative=learned,
            notes=notes,
        )

    def _measures(self, count: int, here: list[Exposed], confidence: float) -> dict[str, Measure]:
        inside = [e for e in here if e.slot.filled]
        outside = [e for e in here if not e.slot.filled]
        out: dict[str, Measure] = {}
        if not inside:
            return {f"median_exposure_{_times(count)}": Measure(None, reason="no slot was filled")}
        baseline = None
        if outside:
            middle = median_interval(np.array([e.bits for e in outside]), confidence)
            baseline = Measure(*middle, n=len(outside), name="secrets never inserted")
        middle = median_interval(np.array([e.bits for e in inside]), confidence)
        out[f"median_exposure_{_times(count)}"] = Measure(*middle, n=len(inside), baseline=baseline, unit="bits")
        share = binomial_interval(sum(e.extracted for e in inside), len(inside), confidence)
        chance = Measure(10.0**-self.digits, name="guessing")
        out[f"extracted_{_times(count)}"] = Measure(share.value, share.low, share.high, len(inside), chance)
        return out

    def _trials(self, exposed: list[Exposed], count: int, claim: Claim | None) -> Trials | None:
        """The counts of one repetition count; None where the claim promises nothing to groups of that size."""
        group = None if claim is None else group_claim(claim, count)
        if claim is not None and group is None:
            return None
        here = [e for e in exposed if e.slot.repetitions == count]
        hits = sum(e.hit for e in here if e.slot.filled)
        counts = SlotCounts(len(here), hits, self.fill_probability, 10**self.digits, self.top)
        return Trials("k-ary-markov", counts, group.delta if group else 0.0, group, group=count)


def _estimates(losses: NDArray[np.float64], own: float, most: float) -> tuple[float | None, float, float | None]:
    """(sampled, its lower limit, extrapolated): None where there is no value or the fit is rejected. A law has a tail
    below the likeliest candidate, so that what it gives is cut at `most`, the bits of the space."""
    sample, fitted = sampled_exposure(losses, own), extrapolated_exposure(losses, own)
    return sample.value, sample.low, min(most, fitted.value) if fitted.fits else None


def _estimators(inside: list[Exposed], *, exact: bool) -> dict[str, Measure]:
    """How often each estimator has a value, and, where the exact rank is known, its median distance from it."""
    out: dict[str, Measure] = {}
    for name in ("sampled", "extrapolated"):
        pairs = [(getattr(e, name), e.bits) for e in inside if getattr(e, name) is not None]
        share = len(pairs) / len(inside) if inside else None
        out[f"{name}_exposure_available"] = Measure(share, n=len(inside), better=None)
        if exact and pairs:
            gap = float(np.median([abs(estimate - bits) for estimate, bits in pairs]))
            out[f"{name}_exposure_error"] = Measure(gap, n=len(pairs), unit="bits", better=None)
    return out


def _perplexities(quality: Mapping[str, float]) -> dict[str, Measure]:
    return {f"perplexity_{name}": Measure(value, unit="per token", better=None) for name, value in quality.items()}


def _times(count: int) -> str:
    return f"{count}x"


def _most_exposed(exposed: list[Exposed]) -> list[Exposed]:
    """The most exposed filled slot of every repetition count."""
    counts = sorted({e.slot.repetitions for e in exposed if e.slot.filled})
    return [
        max((e for e in exposed if e.slot.filled and e.slot.repetitions == c), key=lambda e: e.bits) for c in counts
    ]


def _example(exposed: Exposed) -> Example:
    slot = exposed.slot
    label = f"most exposed of those inserted {slot.repetitions} times"
    return Example("text", label, slot.text, slot.prefix + exposed.greedy, exposed.bits, "bits of exposure")


def _histogram(exposed: list[Exposed], repetitions: tuple[int, ...], digits: int) -> Series:
    """Share of secrets by whole bits of exposure, one line a repetition count and one for those never inserted."""
    groups = {
        f"inserted {c} times": [e for e in exposed if e.slot.filled and e.slot.repetitions == c] for c in repetitions
    }
    groups["never inserted"] = [e for e in exposed if not e.slot.filled]
    edges = np.arange(0, math.ceil(digits * math.log2(10)) + 1)
    lines = []
    for name, members in groups.items():
        if members:
            counted = np.histogram([e.bits for e in members], edges)[0] / len(members)
            lines.append(Line(name, tuple(edges[:-1] + 0.5), tuple(float(c) for c in counted)))
    return Series("Exposure of secrets", "bits of exposure", "share of secrets", tuple(lines))
