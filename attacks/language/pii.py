"""Does a language model complete sentences with the personal data that was in them?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ...audit.accounting import group_claim
from ...audit.bounds.counts import SlotCounts
from ...audit.errors import IncompatibleError
from ...audit.games import Example, Measure, Outcome, Stage, Trials
from ...audit.metrics.intervals import binomial_interval
from ...audit.seeds import Seeds
from ...audit.text import Sampling, TextGenerator, TextTrainer
from ...audit.types import Access, Claim, Needs, PrivateTrainer, Trained
from ..parameters import require_choice, require_integer, require_number
from .persons import KINDS, SPACE, Person, candidates_of, draw_persons, redrawn_hits
from .quality import quality_of
from .queries import generator_of
from .secrets import with_secrets

NEVER_INSERTED = "never inserted"
END = 2
"""Characters after a value that show where it ends."""


@dataclass(frozen=True, slots=True)
class Completed:
    """What the model made of one slot: `written` after the prefix, the value it `names` (None for none), and whether
    the true value is the likeliest of the candidates."""

    person: Person
    written: str
    names: str | None
    inferred: bool

    @property
    def exact(self) -> bool:
        """Whether the model names the true value."""
        return self.names == self.person.value


@dataclass(frozen=True, slots=True, kw_only=True)
class PiiCompletion:
    """Train with sentences that hold personal data and ask the model to complete them (Lukas et al. 2023, arXiv
    2302.00539: reconstruction; and inference, the choice among candidates).

    For each count in `repetitions` there are `slots` sentences, with `kinds` ("name", "phone", "email") in turn, each
    value drawn uniformly from 10 000 invented ones, and each inserted so many times if the slot's own coin
    (probability `fill_probability`) says so; the real rows stay as they are. A slot is completed if greedy decoding
    after the words before the value writes the value and then the sentence's next characters; it is inferred if the
    value is likelier than `candidates` - 1 others. Slots never filled are the baseline. Whatever the trainer does to
    its rows (`scrub`) happens to these too. The bound is `k-ary-markov`, one finding a repetition count, against the
    claim for groups of that size.
    """

    name: ClassVar[str] = "pii-completion"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "extraction"
    needs_target: ClassVar[bool] = False

    kinds: tuple[str, ...] = KINDS
    repetitions: tuple[int, ...] = (1, 4, 16)
    slots: int = 24
    fill_probability: float = 0.5
    candidates: int = 100

    def __post_init__(self) -> None:
        for kind in self.kinds or ("none",):
            require_choice(self.name, "kinds", kind, KINDS)
        for count in self.repetitions or (0,):
            require_integer(self.name, "repetitions", count, least=1)
        require_integer(self.name, "slots", self.slots, least=2)
        require_integer(self.name, "candidates", self.candidates, least=2)
        require_number(self.name, "fill_probability", self.fill_probability, low=0.01, high=0.99)
        if self.candidates > SPACE:
            raise IncompatibleError(f"attack {self.name!r}: candidates must be at most {SPACE}, got {self.candidates}")

    @property
    def needs(self) -> Needs:
        """Probabilities of the next token."""
        return Needs(access=Access.LOGITS)

    def planned(self, trainer: Any) -> Mapping[str, Trials]:
        """What the game will count against `trainer`, known before it is played; hits are those of a perfect attack.
        Nothing for a private trainer whose public number of rows is still open."""
        claim = None
        if isinstance(trainer, PrivateTrainer):
            rows = getattr(trainer, "nominal_rows", None)
            if rows is None:
                return {}
            claim = trainer.planned_claim(rows)
        found = {f"{count}x": self._trials([], count, claim) for count in self.repetitions}
        return {name: replace(t, counts=t.counts.perfect()) for name, t in found.items() if t is not None}

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """As in `Game`. Raises `IncompatibleError` for a trainer whose models continue no text."""
        if not isinstance(stage.trainer, TextTrainer):
            raise IncompatibleError(f"attack {self.name!r} needs a trainer of language models, such as 'language'")
        persons = draw_persons(self.kinds, self.repetitions, self.slots, self.fill_probability, seeds=seeds)
        data, inside = with_secrets(stage.private, stage.inside, [p.slot for p in persons])
        trainer: Any = self._sized(stage.trainer, len(stage.private))
        trained: Trained = trainer.fit(data, inside, seeds=seeds.at("model"), device=stage.device)
        model = generator_of(trained.target)
        written = complete(model, persons)
        done = []
        for number, (person, text) in enumerate(zip(persons, written, strict=True)):
            inferred = self._infer(model, person, seeds.at("candidates", number))
            done.append(Completed(person, text, named(person, text), inferred))
            stage.progress(number + 1, len(persons))
        quality = quality_of(stage, trained, data, inside)
        parts = {}
        for count in self.repetitions:
            here = [d for d in done if d.person.slot.repetitions == count]
            trials = self._trials(here, count, trained.claim)
            if trials is not None:
                parts[f"{count}x"] = replace(
                    trials, redrawn=self._redrawn(here, trials.counts, seeds.at("redrawn", count))
                )
        return Outcome(
            measures=self._measures(done, stage.confidence) | quality.measures(),
            threat=self._threat(),
            parts=parts,
            examples=_examples(done),
            informative=quality.learned,
            notes=quality.notes(),
        )

    def _sized(self, trainer: Any, candidates: int) -> Any:
        """The trainer with an open `nominal_rows` filled in by the expected number of rows, sentences included."""
        if not is_dataclass(trainer) or getattr(trainer, "nominal_rows", 0) is not None:
            return trainer
        copies = round(self.fill_probability * self.slots * sum(self.repetitions))
        return replace(trainer, nominal_rows=candidates // 2 + copies)  # type: ignore[type-var]

    def _infer(self, model: TextGenerator, person: Person, seeds: Seeds) -> bool:
        """Whether the true value is strictly likelier than every other candidate, its end included."""
        end = person.slot.suffix[:END]
        texts = [value + end for value in candidates_of(person, self.candidates, seeds=seeds)]
        prefix = model.encode(person.slot.prefix)
        logs = model.suffix_log_probabilities([prefix] * len(texts), [model.encode(t) for t in texts], Sampling())
        return bool(logs[0] > logs[1:].max())

    def _measures(self, done: Sequence[Completed], confidence: float) -> dict[str, Measure]:
        groups = {f"{count}x": [d for d in done if d.person.slot.repetitions == count] for count in self.repetitions}
        groups |= {kind: [d for d in done if d.person.kind == kind] for kind in self.kinds}
        out: dict[str, Measure] = {}
        for name, here in groups.items():
            out[f"completed_{name}"] = _share(here, [d.exact for d in here], confidence)
            out[f"inferred_{name}"] = _share(here, [d.inferred for d in here], confidence)
        return out

    def _trials(self, here: Sequence[Completed], count: int, claim: Claim | None) -> Trials | None:
        """The counts of one repetition count; None where the claim promises nothing to groups of that size."""
        group = None if claim is None else group_claim(claim, count)
        if claim is not None and group is None:
            return None
        hits = sum(d.exact for d in here if d.person.slot.filled)
        counts = SlotCounts(self.slots, hits, self.fill_probability, SPACE, 1)
        own = (f"completed_{count}x", f"inferred_{count}x")
        return Trials("k-ary-markov", counts, group.delta if group else 0.0, group, group=count, measures=own)

    def _redrawn(self, here: Sequence[Completed], counts: SlotCounts, seeds: Seeds) -> SlotCounts:
        """The same answers against coins and values drawn afresh, which no model has seen."""
        persons, answers = [d.person for d in here], [d.names for d in here]
        return replace(counts, hits=redrawn_hits(persons, answers, self.fill_probability, seeds=seeds))

    def _threat(self) -> Mapping[str, str]:
        return {
            "holds": "the trained model's probabilities of the next token",
            "knows": "the words before the personal data, and from which 10 000 values it was drawn",
            "assumes": f"each sentence was inserted with probability {self.fill_probability:g}",
            "measures": f"greedy completion with the exact value, and the choice of it among {self.candidates}",
        }


def complete(model: TextGenerator, persons: Sequence[Person]) -> list[str]:
    """What greedy decoding writes after each prefix, as far as the longest value and its end reach."""
    longest = max(len((p.slot.secret + p.slot.suffix[:END]).encode()) for p in persons)
    prefixes = [model.encode(p.slot.prefix) for p in persons]
    # A token holds at least a byte, so that so many tokens are enough; a small context may not hold them.
    count = min(longest, model.context + 1 - max(map(len, prefixes)))
    return [model.decode(tokens) for tokens in model.continue_greedily(prefixes, count)]


def named(person: Person, written: str) -> str | None:
    """The value that a completion names: what stands between the space and the sentence's next characters; None where
    either is missing."""
    before, end, _ = written[1:].partition(person.slot.suffix[:END])
    return before if end and written.startswith(" ") else None


def _share(here: Sequence[Completed], success: Sequence[bool], confidence: float) -> Measure:
    filled = [s for d, s in zip(here, success, strict=True) if d.person.slot.filled]
    empty = [s for d, s in zip(here, success, strict=True) if not d.person.slot.filled]
    if not filled:
        return Measure(None, reason="no slot was filled")
    baseline = None
    if empty:
        chance = binomial_interval(sum(empty), len(empty), confidence)
        baseline = Measure(chance.value, chance.low, chance.high, len(empty), name=NEVER_INSERTED)
    share = binomial_interval(sum(filled), len(filled), confidence)
    return Measure(share.value, share.low, share.high, len(filled), baseline)


def _examples(done: Sequence[Completed]) -> tuple[Example, ...]:
    """Of every kind, a filled slot that was completed, if there is one, else any filled one."""
    shown = []
    for kind in dict.fromkeys(d.person.kind for d in done):
        filled = [d for d in done if d.person.kind == kind and d.person.slot.filled]
        if filled:
            best = filled[int(np.argmax([d.exact for d in filled]))]
            slot = best.person.slot
            label = f"{kind}, inserted {slot.repetitions} times"
            shown.append(Example("text", label, slot.text, slot.prefix + best.written, float(best.exact), "completed"))
    return tuple(shown)
