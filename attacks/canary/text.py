"""Text canaries in an audit file: texts inserted by fair coins, recognised by their probability or in every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.canaries import CanaryEvidence, CanarySet
from ...audit.errors import ConfigError, IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import Access, BoolArray, Needs, Scores, Unit
from ..language.secrets import owner, split_template
from ..parameters import require_choice, require_integer, require_number
from .gradient import STATISTICS, GradientCanary

Kind = Literal["random-token", "new-token", "high-temperature", "templated"]
KINDS: tuple[Kind, ...] = ("random-token", "new-token", "high-temperature", "templated")
Calibration = Literal["others", "start", "none"]
CALIBRATIONS: tuple[Calibration, ...] = ("others", "start", "none")
TEMPLATE = "The pass code of {name} is {secret}."
_CONTENT = {
    "random-token": "rows of tokens drawn uniformly from the vocabulary",
    "new-token": "ordinary text and then a token that no other record has",
    "high-temperature": "texts that the public model wrote at high temperature",
    "templated": "sentences with a number drawn uniformly",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCanary:
    """One run with `canaries` texts of `kind` in the training set, each by its own fair coin and `repetitions` times.

    `new-token` (Panda et al. 2025, arXiv 2503.06808): `prefix_tokens` tokens of public text, then a token of its own; a
    longer text takes a larger part of the clipped gradient from the new token.
    `high-temperature` (Mitchell and Andrew 2026, arXiv 2606.10481): written by the public model at `temperature`.
    `random-token`: uniform tokens. `templated`: a sentence with a number of `digits` digits. `tokens` is the length of
    random and written texts, by default a whole row.

    `view` "final-model" scores a canary's log-probability under the last model by `calibration`: "start", its gain over
    the model before fine-tuning; "others" (new-token only, its default), how far that gain exceeds the mean gain of the
    other new tokens after the same text; "none". `view` "steps" reads every released gradient: its product with the
    canary's own, summed up by `statistic` as for gradient canaries.
    Repeated canaries are compared with the claim for groups of that size.
    """

    name: ClassVar[str] = "text-canary"
    version: ClassVar[str] = "1"
    unit: ClassVar[Unit] = Unit.RECORD

    canaries: int = 500
    kind: Kind = "new-token"
    repetitions: int = 1
    view: Literal["final-model", "steps"] = "final-model"
    calibration: Calibration | None = None
    statistic: str = "llr-measured"
    tokens: int | None = None
    prefix_tokens: int = 1
    temperature: float = 2.0
    digits: int = 6
    template: str = TEMPLATE

    def __post_init__(self) -> None:
        require_integer(self.name, "canaries", self.canaries, least=10)
        check_content(self.name, self)
        require_choice(self.name, "view", self.view, ("final-model", "steps"))
        require_choice(self.name, "statistic", self.statistic, STATISTICS)

    @property
    def needs(self) -> Needs:
        """Probabilities of tokens, or everything that training releases."""
        return Needs(access=Access.TRANSCRIPT if self.view == "steps" else Access.LOGITS)

    def canary_set(self, inside: BoolArray) -> CanarySet:
        """As in `CanaryAttack`."""
        parameters = {**contents(self, len(inside)), "repetitions": self.repetitions}
        return CanarySet(f"text-{self.kind}", inside, self.unit, self.view, parameters)

    def score_canaries(self, evidence: CanaryEvidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """One score a canary, higher for more likely inside. Raises `IncompatibleError` without what the view shows."""
        if self.view == "final-model":
            return Scores(calibrated(self, evidence.transcript), evidence.canaries)
        projections = evidence.transcript.get("projections")
        if projections is None:
            raise IncompatibleError(f"attack {self.name!r}: view 'steps' needs projections, the trainer showed none")
        noise = float(evidence.public["noise_multiplier"])
        # Without noise every statistic orders alike, and a likelihood ratio divides by zero.
        statistic = self.statistic if noise > 0 else "sum"
        # Shuffled training has no sampling rate; it has no noise either, and then the rate plays no part.
        rate = float(evidence.public["sample_rate"]) or 1.0
        rule = GradientCanary(rate, noise or 1.0, statistic)
        return rule.score(np.asarray(projections), evidence.canaries)

    def threat(self) -> Mapping[str, str]:
        """What the observer holds, in words."""
        sees = {
            "final-model": "the probabilities of tokens under the fine-tuned model",
            "steps": "the clipped, noised and divided gradient of every step",
        }
        out = {
            "sees": sees[self.view],
            "knows": "every canary, the public model, the sampling rate and the noise; everything but the coins",
            "canaries": f"{self.canaries}: {_CONTENT[self.kind]}, each inserted {self.repetitions} time(s) by its coin",
        }
        if self.repetitions > 1:
            out["bound"] = f"holds for groups of {self.repetitions} records, not for one record"
        return out


def check_content(attack: str, given: Any) -> None:
    """Refuse settings of a text canary (`kind`, `repetitions`, `calibration` and the rest) that make no sense."""
    require_choice(attack, "kind", given.kind, KINDS)
    for key, least in (("repetitions", 1), ("prefix_tokens", 1), ("digits", 1)):
        require_integer(attack, key, getattr(given, key), least=least)
    if given.tokens is not None:
        require_integer(attack, "tokens", given.tokens, least=2)
    require_number(attack, "temperature", given.temperature, low=0.1, high=100.0)
    split_template(given.template)
    if given.calibration is not None:
        require_choice(attack, "calibration", given.calibration, CALIBRATIONS)
    if given.calibration == "others" and given.kind != "new-token":
        raise ConfigError(
            f"attack {attack!r}: calibration 'others' compares new tokens, but kind is {given.kind!r}: use 'start'"
        )


def contents(given: Any, count: int) -> dict[str, Any]:
    """What the trainer must know to make `count` canaries of the kind."""
    if given.kind == "new-token":
        return {"prefix_tokens": given.prefix_tokens}
    if given.kind == "templated":
        before, after = split_template(given.template)
        beginnings = tuple(before.replace("{name}", owner(number)) for number in range(count))
        return {"beginnings": beginnings, "ending": after, "digits": given.digits}
    length = {} if given.tokens is None else {"tokens": given.tokens}
    return length | ({"temperature": given.temperature} if given.kind == "high-temperature" else {})


def calibrated(given: Any, transcript: Mapping[str, Any]) -> NDArray[np.float64]:
    """Log-probabilities of all canaries under the final model, less what `calibration` says."""
    calibration = given.calibration or ("others" if given.kind == "new-token" else "start")
    own = np.asarray(transcript["own"], np.float64)
    if calibration == "none":
        return own
    gain = own - np.asarray(transcript["own-before"], np.float64)
    if calibration == "start":
        return gain
    # What a text does to all new tokens alike says nothing of the one: its gain over theirs does.
    return gain - (np.asarray(transcript["others"], np.float64) - np.asarray(transcript["others-before"], np.float64))
