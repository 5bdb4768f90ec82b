"""Text reconstruction as an audit-file attack: exact sequences, and how little noise ends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ....audit.errors import IncompatibleError
from ....audit.games import Example, Line, Measure, Outcome, Series, Stage
from ....audit.metrics.intervals import binomial_interval
from ....audit.releases import ReleasesUpdates
from ....audit.seeds import Seeds
from ....audit.types import Access, Needs
from ...parameters import require_choice, require_integer
from ..victims import share_measure
from .metrics import matched, rouge_n
from .models import Architecture, TextModel, build_text_model, released_gradients
from .span import span_attack


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanInversion:
    """Token sequences from the gradients of a transformer, exactly, by span tests (DAGER, Petrov et al. 2024, arXiv
    2405.15586; queries, keys and values tested together).

    The model is a randomly initialised `architecture` ("gpt2", "bert") of `layers`, `width`, `heads` and `vocabulary`;
    victims are sequences of `length` tokens drawn uniformly, the hardest case for a guesser: chance is 1 / vocabulary a
    token. `batches` lists batch sizes; each is repeated until `victims` sequences were attacked. The trainer's clipping
    and noise apply to every sequence's gradient. `soft` ranks instead of testing, which bears a little noise.
    """

    name: ClassVar[str] = "span"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "inversion"

    architecture: Architecture = "gpt2"
    layers: int = 3
    width: int = 192
    heads: int = 3
    vocabulary: int = 8000
    length: int = 16
    batches: tuple[int, ...] = (1, 4, 11, 12)
    victims: int = 20
    soft: bool = False

    def __post_init__(self) -> None:
        require_choice(self.name, "architecture", self.architecture, ("gpt2", "bert"))
        for key in ("layers", "width", "heads", "vocabulary", "length", "victims"):
            require_integer(self.name, key, getattr(self, key), least=1)
        for batch in self.batches:
            require_integer(self.name, "batches", batch, least=1)

    @property
    def needs(self) -> Needs:
        """The released gradient."""
        return Needs(access=Access.GRADIENTS)

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """Every batch size in turn."""
        trainer = stage.trainer
        if not isinstance(trainer, ReleasesUpdates):
            raise IncompatibleError(f"attack {self.name!r}: trainer {type(trainer).__name__} shows no single step")
        facts = trainer.release_facts(1e-5)
        model = build_text_model(
            self.architecture,
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            vocabulary=self.vocabulary,
            length=self.length,
            seeds=seeds.at("model"),
        )
        rounds = {}
        for number, batch in enumerate(self.batches):
            rounds[batch] = self._attacked(model, batch, facts.clip, facts.noise, seeds.at("batch", batch))
            stage.progress(number + 1, len(self.batches))
        epsilon = None if facts.claim is None else facts.claim.epsilon
        return self._outcome(rounds, facts, epsilon, stage.confidence)

    def _attacked(
        self, model: TextModel, batch: int, clip: float | None, noise: float, seeds: Seeds
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """(true, found) sequences of as many batches as make up the victims."""
        import torch

        pairs = []
        for repeat in range(-(-self.victims // batch)):
            here = seeds.at(repeat)
            truth = here.generator().integers(self.vocabulary, size=(batch, self.length))
            tokens = torch.from_numpy(truth)
            gradients = released_gradients(model, tokens, clip=clip, noise=noise, seeds=here.at("noise"))
            result = span_attack(
                model, gradients, batch=batch, length=self.length, seeds=here.at("search"), soft=self.soft
            )
            pairs += list(zip(truth, matched(truth, result.sequences), strict=True))
        return pairs

    def _outcome(self, rounds: dict[int, Any], facts: Any, epsilon: float | None, confidence: float) -> Outcome:
        measures: dict[str, Measure] = {}
        shares = []
        for batch, pairs in rounds.items():
            exact = sum(bool((truth == found).all()) for truth, found in pairs)
            share = binomial_interval(exact, len(pairs), confidence)
            shares.append(share)
            guess = Measure(0.0, name="guessing every token")
            measures[f"exact_of_{batch}_sequences"] = Measure(share.value, share.low, share.high, len(pairs), guess)
            chance = Measure(1 / self.vocabulary, name="guessing")
            recall = np.array([float(np.mean(truth == found)) for truth, found in pairs])
            measures[f"tokens_of_{batch}_sequences"] = share_measure(recall, confidence, baseline=chance)
            bigrams = np.array([rouge_n(list(truth), list(found), 2) for truth, found in pairs])
            measures[f"rouge_2_of_{batch}_sequences"] = share_measure(bigrams, confidence)
        line = Line(
            "exact sequences",
            tuple(float(b * self.length) for b in rounds),
            tuple(s.value for s in shares),
            tuple(s.low for s in shares),
            tuple(s.high for s in shares),
        )
        title = f"Exact sequences by tokens in the gradient (width {self.width})"
        series = Series(title, "tokens in the gradient", "share exact", (line,))
        guarded = "nothing is clipped or noised" if facts.clip is None else f"epsilon of one release {epsilon:.3g}"
        threat = {
            "holds": f"{facts.released}; {guarded}",
            "knows": f"the {self.architecture} model (random weights), batch size, sequence length and vocabulary",
            "assumes": "evaluation mode, no dropout; tokens drawn uniformly",
            "server": "honest but curious",
        }
        truth, found = next(iter(rounds.values()))[0]
        words = [" ".join(map(str, t)) for t in (truth, found)]
        score = float(np.mean(truth == found))
        example = Example("text", "one sequence, as token numbers", words[0], words[1], score, "tokens in place")
        return Outcome(measures, threat, examples=(example,), series=(series,))
