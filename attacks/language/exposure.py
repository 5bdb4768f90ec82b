"""How far a language model gives away secrets that were in its training text, by how often they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ...audit.accounting import group_claim
from ...audit.bounds.counts import SlotCounts
from ...audit.errors import ConfigError, IncompatibleError
from ...audit.games import Measure, Outcome, Stage, Trials
from ...audit.seeds import Seeds
from ...audit.text import TextModel, TextTrainer
from ...audit.types import Access, Claim, Needs, PrivateTrainer, Trained
from ..parameters import require_integer, require_number
from .exposure_measures import Cell, cell_measures, estimator_measures, examples, histogram
from .quality import Quality, quality_of
from .ranking import MOST_EXACT_DIGITS, Exposed, expose
from .secrets import Slot, draw_slots, split_template, with_secrets
from .survival import Survival, survival


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretExposure:
    """Train with secrets in the text and measure exposure (Carlini et al. 2019, arXiv 1802.08232) and extraction by
    greedy continuation of the prefix (Carlini et al. 2023, arXiv 2202.07646).

    For each number of `digits` and each count in `repetitions` there are `slots` sentences of `template`, each with so
    many digits drawn uniformly, inserted so many times if the slot's own coin (probability `fill_probability`) says so;
    the real rows stay as they are. Up to 4 digits all numbers are ranked; beyond, a search ranks what the model knows,
    and `samples` random numbers give an interval and a skew-normal extrapolation. The bound is `k-ary-markov`, one
    finding a repetition count and number of digits, each against the claim for groups of that size. A hit is a filled
    slot whose secret is among the `top` most likely numbers; beyond 4 digits, where not all are ranked, whose secret is
    what greedy decoding says. `alpha_share` is shared out equally. Of a trainer with defences it is told which secrets
    they left.
    """

    name: ClassVar[str] = "secret-exposure"
    version: ClassVar[str] = "2"
    family: ClassVar[str] = "exposure"
    needs_target: ClassVar[bool] = False

    digits: int | tuple[int, ...] = 4
    repetitions: tuple[int, ...] = (1, 4, 16)
    slots: int = 43
    fill_probability: float = 0.5
    top: int = 1
    samples: int = 2000
    template: str = "The pass code of {name} is {secret}."

    def __post_init__(self) -> None:
        for key, least in (("slots", 2), ("top", 1), ("samples", 100)):
            require_integer(self.name, key, getattr(self, key), least=least)
        for key, values in (("repetitions", self.repetitions), ("digits", self.sizes)):
            for value in values:
                require_integer(self.name, key, value, least=1)
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"attack {self.name!r}: {key} must name each value once, got {list(values)}")
        require_number(self.name, "fill_probability", self.fill_probability, low=0.01, high=0.99)
        split_template(self.template)
        if min(self.sizes) > MOST_EXACT_DIGITS and self.top > 1:
            raise IncompatibleError(
                f"attack {self.name!r}: top must be 1 beyond {MOST_EXACT_DIGITS} digits, got {self.top}: not all "
                "numbers are ranked"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of digits."""
        return (self.digits,) if isinstance(self.digits, int) else self.digits

    @property
    def needs(self) -> Needs:
        """Probabilities of the next token."""
        return Needs(access=Access.LOGITS)

    @property
    def cells(self) -> Iterator[Cell]:
        """Every number of digits with every repetition count, in the order of the slots."""
        return (Cell(size, count, len(self.sizes) > 1) for size in self.sizes for count in self.repetitions)

    def planned(self, trainer: Any) -> Mapping[str, Trials]:
        """What the game will count against `trainer`, known before it is played; hits are those of a perfect attack.
        Nothing for a private trainer whose public number of rows is still open."""
        claim = None
        if isinstance(trainer, PrivateTrainer):
            rows = getattr(trainer, "nominal_rows", None)
            if rows is None:
                return {}
            claim = trainer.planned_claim(rows)
        found = {cell.name: self._trials([], cell, claim) for cell in self.cells}
        return {name: replace(t, counts=t.counts.perfect()) for name, t in found.items() if t is not None}

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """As in `Game`. Raises `IncompatibleError` for a trainer whose models are no causal language models."""
        if not isinstance(stage.trainer, TextTrainer):
            raise IncompatibleError(f"attack {self.name!r} needs a trainer of language models, such as 'language'")
        slots = draw_slots(self.template, self.sizes, self.repetitions, self.slots, self.fill_probability, seeds=seeds)
        data, inside = with_secrets(stage.private, stage.inside, slots)
        trainer: Any = self._sized(stage.trainer, len(stage.private))
        trained: Trained = trainer.fit(data, inside, seeds=seeds.at("model"), device=stage.device)
        model: Any = trained.target
        if not isinstance(model, TextModel):
            raise IncompatibleError(f"attack {self.name!r} asks for the next token; this model is no causal one")
        exposed = []
        for number, slot in enumerate(slots):
            exposed.append(self._expose(model, slot, seeds.at("sample", number)))
            stage.progress(number + 1, len(slots))
        quality = quality_of(stage, trained, data, inside)
        left = survival(trainer, data, inside, slots, seeds=seeds.at("model"))
        return self._outcome(exposed, quality, left, trained.claim, stage.confidence)

    def _sized(self, trainer: Any, candidates: int) -> Any:
        """The trainer with an open `nominal_rows` filled in by the expected number of rows, secrets included."""
        if not is_dataclass(trainer) or getattr(trainer, "nominal_rows", 0) is not None:
            return trainer
        inserted = round(self.fill_probability * self.slots * len(self.sizes) * sum(self.repetitions))
        return replace(trainer, nominal_rows=candidates // 2 + inserted)  # type: ignore[type-var]

    def _expose(self, model: TextModel, slot: Slot, seeds: Seeds) -> Exposed:
        return expose(model, slot, self.fill_probability, samples=self.samples, top=self.top, seeds=seeds)

    def _outcome(
        self,
        exposed: list[Exposed],
        quality: Quality,
        left: Survival | None,
        claim: Claim | None,
        confidence: float,
    ) -> Outcome:
        measures, parts = quality.measures(), {}
        for cell in self.cells:
            own = self._cell_measures(exposed, cell, left, confidence)
            measures |= own
            trials = self._trials(exposed, cell, claim)
            if trials is not None:
                parts[cell.name] = replace(trials, measures=tuple(own))
        notes = (*quality.notes(), *(() if left is None else (left.note(),)))
        spoken = " or ".join(map(str, self.sizes))
        return Outcome(
            measures=measures,
            threat={
                "holds": "the trained model's probabilities of the next token",
                "knows": f"every sentence but its {spoken} digits, which are drawn uniformly",
                "assumes": f"each sentence was inserted with probability {self.fill_probability:g}",
                "measures": "bits of exposure, and greedy continuation of the text before the digits",
            },
            parts=parts,
            examples=examples(exposed),
            series=tuple(histogram(exposed, self.repetitions, size) for size in self.sizes),
            informative=quality.learned,
            notes=notes,
        )

    def _cell_measures(
        self, exposed: list[Exposed], cell: Cell, left: Survival | None, confidence: float
    ) -> dict[str, Measure]:
        """What is told with this cell: its own figures; with the first of its number of digits, how good the estimators
        were; with the first of all, what the defences did."""
        here = [cell.has(e.slot) for e in exposed]
        own = cell_measures([e for e, inside in zip(exposed, here, strict=True) if inside], cell, confidence)
        if left is not None:
            own[f"surviving_{cell.label}"] = left.share(np.array(here))
        if cell.repetitions == self.repetitions[0]:
            suffix = f"_{cell.digits}_digits" if cell.sized else ""
            own |= estimator_measures([e for e in exposed if len(e.slot.secret) == cell.digits], suffix)
            if left is not None and cell.digits == self.sizes[0]:
                own |= left.measures()
        return own

    def _trials(self, exposed: list[Exposed], cell: Cell, claim: Claim | None) -> Trials | None:
        """The counts of one cell; None where the claim promises nothing to groups of that size."""
        group = None if claim is None else group_claim(claim, cell.repetitions)
        if claim is not None and group is None:
            return None
        hits = sum(e.hit for e in exposed if e.slot.filled and cell.has(e.slot))
        named = self.top if cell.digits <= MOST_EXACT_DIGITS else 1
        counts = SlotCounts(self.slots, hits, self.fill_probability, 10**cell.digits, named)
        redrawn = replace(counts, hits=sum(e.redrawn_hit for e in exposed if cell.has(e.slot)))
        delta = group.delta if group else 0.0
        return Trials("k-ary-markov", counts, delta, group, group=cell.repetitions, redrawn=redrawn)
