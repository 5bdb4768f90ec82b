"""Gradient matching for text as an audit-file attack, beside the span test on the same victims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ....audit.errors import IncompatibleError
from ....audit.games import Example, Measure, Outcome, Stage
from ....audit.metrics.intervals import binomial_interval
from ....audit.releases import ReleasesUpdates
from ....audit.seeds import Seeds
from ....audit.types import Access, Needs
from ...parameters import require_choice, require_integer
from ..victims import FEW, share_measure
from .embedding_search import EmbeddingSearch, search_tokens, watched_parameters
from .metrics import matched, rouge_l, rouge_n
from .models import build_text_model, released_gradients, released_of
from .prose import Prose, learn_bigrams, load_prose
from .span import span_attack

Pairs = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextMatching:
    """English sequences from the gradients of an encoder, by optimisation: `method` "tag" or "lamp".

    Victims are runs of `length` of the `vocabulary` most frequent words of Python's manual; the bigram prior of "lamp"
    is learned on other topics. The encoder has random weights; embeddings' own gradients, which name the tokens, are
    left out. Labels are known. The span test (`span`) attacks the same victims, and a public sequence guesses them.
    """

    name: ClassVar[str] = "text-matching"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "inversion"

    method: Literal["tag", "lamp"] = "lamp"
    layers: int = 3
    width: int = 48
    heads: int = 2
    vocabulary: int = 300
    length: int = 6
    batch_size: int = 1
    victims: int = 20
    iterations: int = 300

    def __post_init__(self) -> None:
        require_choice(self.name, "method", self.method, ("tag", "lamp"))
        for key in ("layers", "width", "heads", "vocabulary", "batch_size", "victims", "iterations"):
            require_integer(self.name, key, getattr(self, key), least=1)
        require_integer(self.name, "length", self.length, least=2)

    @property
    def needs(self) -> Needs:
        """The released gradient."""
        return Needs(access=Access.GRADIENTS)

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """Every victim batch in turn."""
        trainer = stage.trainer
        if not isinstance(trainer, ReleasesUpdates):
            raise IncompatibleError(f"attack {self.name!r}: trainer {type(trainer).__name__} shows no single step")
        facts = trainer.release_facts(1e-5)
        sizes = {key: getattr(self, key) for key in ("layers", "width", "heads", "vocabulary", "length")}
        model: Any = build_text_model("bert", **sizes, seeds=seeds.at("model"))
        # The fused attention kernels have no second derivative.
        model.module.set_attn_implementation("eager")
        prose = load_prose(self.vocabulary, self.length, seeds=seeds.at("prose"))
        order = seeds.at("victims").generator().permutation(len(prose.private))
        found: Pairs = []
        spans: Pairs = []
        for number in range(self.victims):
            chosen = order[np.arange(number * self.batch_size, (number + 1) * self.batch_size) % len(order)]
            truth, here = prose.private[chosen], seeds.at("victim", number)
            for pairs, guess in zip((found, spans), self._attacked(model, truth, facts, prose, here), strict=True):
                pairs += list(zip(truth, matched(truth, guess), strict=True))
            stage.progress(number + 1, self.victims)
        return self._outcome(found, spans, prose, facts, stage.confidence, seeds)

    def _attacked(
        self, model: Any, truth: NDArray[np.int64], facts: Any, prose: Prose, seeds: Seeds
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What the search and what the span test find of one batch."""
        import torch

        tokens = torch.from_numpy(truth)
        # The same stream on both sides: one release, two attacks.
        guard = {"clip": facts.clip, "noise": facts.noise, "seeds": seeds.at("noise")}
        gradients = released_of(model, tokens, watched_parameters(model), **guard)
        searched = search_tokens(
            model,
            gradients,
            torch.arange(len(truth)) % 2,
            self.length,
            EmbeddingSearch(method=self.method, iterations=self.iterations),
            learn_bigrams(prose.public, self.vocabulary),
            seeds=seeds.at("search"),
        )
        layers = released_gradients(model, tokens, **guard)
        span = span_attack(model, layers, batch=len(truth), length=self.length, seeds=seeds.at("span"))
        return searched, span.sequences

    def _outcome(
        self, found: Pairs, spans: Pairs, prose: Prose, facts: Any, confidence: float, seeds: Seeds
    ) -> Outcome:
        drawn = seeds.at("guess").generator().integers(len(prose.public), size=len(found))
        guesses = [(truth, prose.public[k]) for (truth, _), k in zip(found, drawn, strict=True)]
        span_exact = binomial_interval(_exact(spans), len(spans), confidence)
        exact = binomial_interval(_exact(found), len(found), confidence)
        span = Measure(span_exact.value, span_exact.low, span_exact.high, len(spans), name="span test, same victims")
        measures = {"exact_sequences": Measure(exact.value, exact.low, exact.high, len(found), span)}
        for name, rule in SCORES.items():
            prior, own = (np.array([rule(list(t), list(f)) for t, f in pairs]) for pairs in (guesses, found))
            base = share_measure(prior, confidence, name="a public sequence")
            measures[name] = share_measure(own, confidence, baseline=base)
        guarded = "nothing is clipped or noised"
        if facts.clip is not None:
            guarded = f"epsilon of one release {facts.claim.epsilon:.3g}"
        threat = {
            "holds": f"{facts.released}, embeddings left out; {guarded}",
            "knows": "the bert model (random weights), batch size, length, vocabulary, labels and other English text",
            "assumes": "evaluation mode, no dropout",
            "server": "honest but curious",
        }
        truth, guess = found[0]
        score = SCORES["tokens_in_place"](list(truth), list(guess))
        words = prose.text(truth), prose.text(guess)
        notes = () if self.victims >= FEW else (f"only {self.victims} victim batches: fewer than {FEW} say little",)
        example = Example("text", "one sequence", *words, score, "tokens in place")
        return Outcome(measures, threat, examples=(example,), notes=notes)


def _exact(pairs: Pairs) -> int:
    return sum(bool((truth == found).all()) for truth, found in pairs)


SCORES = {
    "tokens_in_place": lambda truth, found: float(np.mean(np.array(truth) == np.array(found))),
    "rouge_1": lambda truth, found: rouge_n(truth, found, 1),
    "rouge_2": lambda truth, found: rouge_n(truth, found, 2),
    "rouge_l": rouge_l,
}
