"""Rank audit of fine-tuning: many short independent runs, each with one secret drawn from a pool that all share."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...audit.accounting import group_claim
from ...audit.bounds.counts import RankCounts
from ...audit.canaries import CanaryHost, CanarySet
from ...audit.errors import IncompatibleError
from ...audit.games import Line, Measure, Outcome, Series, Stage, Trials
from ...audit.metrics.exposure import median_interval, pessimistic_rank
from ...audit.metrics.intervals import binomial_interval
from ...audit.seeds import Seeds
from ...audit.types import Access, Claim, Needs, Unit
from ..parameters import require_integer
from .text import TEMPLATE, Calibration, Kind, calibrated, check_content, contents

BLOCK = 25
"""Runs after which what was found is written down: an interrupted audit repeats at most so many."""


RANKS = "ranks-of-pairs.json"
"""What the game keeps of the runs done: the rank of each run's secret and of one drawn afresh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRank:
    """`runs` independent fine-tunings on the same rows, each with one text drawn uniformly from `pool` candidates.

    After each run all candidates are scored under the final model and the rank of the inserted one is taken, equals
    counted against the attack; a hit is a rank up to `top`. The bound is `rank`, whose ceiling ln(pool / top) does not
    depend on the number of runs. `kind`, `repetitions`, `calibration` and what follows are those of `text-canary`;
    candidates are made once, of public things. Resumes after each block of runs.
    """

    name: ClassVar[str] = "text-rank"
    version: ClassVar[str] = "2"
    family: ClassVar[str] = "exposure"

    runs: int = 200
    pool: int = 1000
    top: int = 1
    delta: float | None = None
    kind: Kind = "new-token"
    repetitions: int = 1
    calibration: Calibration | None = None
    tokens: int | None = None
    prefix_tokens: int = 1
    temperature: float = 2.0
    digits: int = 6
    template: str = TEMPLATE

    def __post_init__(self) -> None:
        for key, least in (("runs", 1), ("pool", 2), ("top", 1)):
            require_integer(self.name, key, getattr(self, key), least=least)
        check_content(self.name, self)
        RankCounts(self.runs, 0, self.pool, self.top)

    @property
    def needs(self) -> Needs:
        """Probabilities of tokens."""
        return Needs(access=Access.LOGITS)

    def planned(self, trainer: Any) -> Trials | None:
        """What the game will count, for the plan: every run a hit. None for a trainer without public sizes or claim."""
        planned = getattr(trainer, "planned_claim", None)
        if planned is None or getattr(trainer, "nominal_rows", None) is None:
            return None
        claim = group_claim(planned(0), self.repetitions)
        return self._trials(self.runs, claim)

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """As in `Game`. Raises `IncompatibleError` for a trainer that inserts no canaries of this kind."""
        trainer = _sized(stage.trainer, len(stage.private))
        kind = f"text-{self.kind}"
        if not isinstance(trainer, CanaryHost) or kind not in trainer.hosts():
            raise IncompatibleError(
                f"attack {self.name!r} needs a trainer that inserts {kind!r} canaries, such as 'language'"
            )
        drawn = seeds.at("secrets").generator().integers(self.pool, size=self.runs)
        fresh = seeds.at("redrawn").generator().integers(self.pool, size=self.runs)
        ranks, claim = self._read(stage.folder), trainer.planned_canary_claim(0, self._canaries(0, seeds))
        for first in range(len(ranks), self.runs, BLOCK):
            for number in range(first, min(first + BLOCK, self.runs)):
                ranks.append(self._run(trainer, stage, int(drawn[number]), int(fresh[number]), number, seeds))
                stage.progress(number + 1, self.runs)
            self._write(stage.folder, ranks)
        found = np.array(ranks)
        return self._outcome(found[:, 0], found[:, 1], claim, stage.confidence)

    def _run(
        self, trainer: CanaryHost, stage: Stage, secret: int, fresh: int, number: int, seeds: Seeds
    ) -> tuple[int, int]:
        """One fine-tuning; the rank of its secret among all candidates, 1 for the first, and that of a candidate drawn
        afresh, which the model never saw."""
        seen = trainer.fit_with_canaries(
            stage.private,
            stage.inside,
            self._canaries(secret, seeds),
            seeds=seeds.at("run", number),
            device=stage.device,
        )
        scores = calibrated(self, seen.transcript)
        return pessimistic_rank(scores, secret), pessimistic_rank(scores, fresh)

    def _canaries(self, secret: int, seeds: Seeds) -> CanarySet:
        inside = np.zeros(self.pool, dtype=bool)
        inside[secret] = True
        parameters = {
            **contents(self, self.pool),
            "repetitions": self.repetitions,
            # One candidate is inside, whichever it is: a public number.
            "expected": 1,
            "pool_seed": seeds.at("pool").integer(),
        }
        if self.kind == "new-token":
            parameters["prefixes"] = 1
        return CanarySet(f"text-{self.kind}", inside, Unit.RECORD, "final-model", parameters)

    def _trials(self, hits: int, claim: Claim | None) -> Trials:
        delta = self.delta if self.delta is not None else claim.delta if claim else 0.0
        counts = RankCounts(self.runs, hits, self.pool, self.top)
        return Trials("rank", counts, delta, claim, group=self.repetitions)

    def _outcome(
        self, ranks: NDArray[np.int64], fresh: NDArray[np.int64], claim: Claim | None, confidence: float
    ) -> Outcome:
        hits = int((ranks <= self.top).sum())
        share = binomial_interval(hits, self.runs, confidence)
        bits = math.log2(self.pool) - np.log2(ranks)
        middle = median_interval(bits, confidence)
        chance = Measure(self.top / self.pool, name="guessing")
        # Of ranks drawn uniformly: the median of log2(pool / rank).
        blind = Measure(1.0, name="a model that never saw the secret")
        promised = claim is not None or self.repetitions == 1
        control = RankCounts(self.runs, int((fresh <= self.top).sum()), self.pool, self.top)
        return Outcome(
            measures={
                "hits": Measure(share.value, share.low, share.high, self.runs, chance),
                "median_exposure": Measure(*middle, n=self.runs, baseline=blind, unit="bits"),
            },
            threat={
                "holds": "the probabilities of tokens under the fine-tuned model, and the public model before",
                "knows": f"every row and the {self.pool} candidates; not which of them was inserted",
                "assumes": "each run draws its candidate uniformly and independently of everything else",
            },
            trials=replace(self._trials(hits, claim), redrawn=control) if promised else None,
            series=(_histogram(bits, self.pool),),
        )

    def _read(self, folder: Path) -> list[tuple[int, int]]:
        path = folder / RANKS
        return [(rank, fresh) for rank, fresh in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []

    def _write(self, folder: Path, ranks: list[tuple[int, int]]) -> None:
        """By atomic rename: a kill leaves the old list or the new one."""
        path = folder / RANKS
        part = path.with_suffix(".part")
        part.write_text(json.dumps(ranks), encoding="utf-8")
        part.replace(path)


def _sized(trainer: Any, candidates: int) -> Any:
    """The trainer with an open `nominal_rows` filled in: half of the candidates, as everywhere."""
    if not is_dataclass(trainer) or getattr(trainer, "nominal_rows", 0) is not None:
        return trainer
    return replace(trainer, nominal_rows=candidates // 2)  # type: ignore[type-var]


def _histogram(bits: NDArray[np.float64], pool: int) -> Series:
    """Share of runs by whole bits of exposure."""
    edges = np.arange(0, math.ceil(math.log2(pool)) + 2)
    counted = np.histogram(bits, edges)[0] / len(bits)
    line = Line("runs", tuple(float(e) for e in edges[:-1] + 0.5), tuple(float(c) for c in counted))
    return Series("Exposure of the inserted text", "bits of exposure", "share of runs", (line,))
