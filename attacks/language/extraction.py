"""How much of its training text a language model gives back: prompted with the beginning of rows, or with nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.games import Example, Line, Measure, Outcome, Series, Stage
from ...audit.metrics.intervals import binomial_interval
from ...audit.seeds import Seeds
from ...audit.text import Sampling, TextGenerator, Tokens
from ...audit.types import Access, BoolArray, Needs
from ..parameters import require_integer, require_number
from .continuation import (
    Continued,
    among_beams,
    continued_greedily,
    discoverable,
    discoverable_share,
    long_enough,
    sampled_log_probabilities,
)
from .quality import quality_of
from .queries import generator_of
from .untargeted import Written, prompts_of, rankings, verbatim, written_by_beams, written_randomly

NEVER_TRAINED = "rows not trained on"
SHOWN = 5
"""Examples in a report."""
MOST_QUERIES = 6
"""The plot of queries goes up to ten to this."""


@dataclass(frozen=True, slots=True)
class Half:
    """The rows of one side, members or not: tokens (rows, length), greedy continuations by prefix length, whether beams
    found the rest, and ln p_z of the rest under the sampling scheme, from the longest prefix."""

    rows: Tokens
    continued: tuple[Continued, ...]
    beams: BoolArray
    log_probabilities: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextExtraction:
    """Training text that the target gives back, next to text it was not trained on.

    *Continuation* of up to `rows` member rows and as many others: of the first k tokens of a row, for each k in
    `prefixes`, by the next `suffix` tokens. Greedy decoding gives k-extractable rows (Carlini et al. 2023, arXiv
    2202.07646). From the longest prefix also: the rest is among the best `beams` beams; (n, p)-discoverable rows, for
    each n in `queries` and p = `probability` (Hayes et al. 2024, arXiv 2410.19482), computed exactly from the
    probability of the rest under `temperature`, `top_k` (0: all) and `top_p`.

    *Untargeted* (Carlini et al. 2021, arXiv 2012.07805): `samples` texts of `sample_tokens` tokens after the first
    `prompt_tokens` tokens of public rows, drawn by the same scheme, and `samples` more by beam search. They are ranked
    by perplexity, zlib, lower case and, with `reference`, against the same trainer's unprotected model of public rows.
    The share of the `top` ranked that share a run of `verbatim_bytes` bytes with a training row is the precision.
    Intervals are over rows and texts of this one model. No bound: it certifies nothing about epsilon.
    """

    name: ClassVar[str] = "text-extraction"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "extraction"

    prefixes: tuple[int, ...] = (8, 16)
    suffix: int = 16
    rows: int = 200
    beams: int = 4
    queries: tuple[int, ...] = (1, 10, 100, 1000)
    probability: float = 0.5
    temperature: float = 1.0
    top_k: int = 40
    top_p: float = 1.0
    samples: int = 200
    sample_tokens: int = 24
    prompt_tokens: int = 1
    top: int = 20
    verbatim_bytes: int = 32
    reference: bool = False

    def __post_init__(self) -> None:
        for key, least in (("suffix", 1), ("rows", 1), ("beams", 1), ("samples", 0), ("sample_tokens", 1)):
            require_integer(self.name, key, getattr(self, key), least=least)
        for key in ("prompt_tokens", "top", "verbatim_bytes"):
            require_integer(self.name, key, getattr(self, key), least=1)
        for key in ("prefixes", "queries"):
            for value in getattr(self, key) or (0,):
                require_integer(self.name, key, value, least=1)
        require_number(self.name, "probability", self.probability, low=1e-6, high=1 - 1e-6)
        self.sampling()

    def sampling(self) -> Sampling:
        """How continuations are drawn."""
        return Sampling(self.temperature, self.top_k, self.top_p)

    @property
    def needs(self) -> Needs:
        """Probabilities of the next token."""
        return Needs(access=Access.LOGITS)

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """As in `Game`. Raises `IncompatibleError` for a target that continues no text, and where no row is as long as
        the longest prefix and its suffix."""
        trained = stage.target()
        model = generator_of(trained.target)
        sides = []
        for number, (side, where) in enumerate((("members", stage.inside), ("others", ~stage.inside))):
            chosen = self._chosen(model, stage.private.features[where], seeds.at("rows", side))
            sides.append(self._half(model, chosen))
            stage.progress(number + 1, 3)
        members, others = sides
        measures = self._prompted(members, others, stage.confidence)
        measures |= self._unprompted(model, stage, seeds)
        stage.progress(3, 3)
        quality = quality_of(stage, trained, stage.private, stage.inside)
        return Outcome(
            measures=measures | quality.measures(),
            threat=self._threat(),
            examples=self._examples(model, members),
            series=(self._by_prefix(members, others, stage.confidence), self._by_queries(members, others)),
            informative=quality.learned,
            notes=quality.notes(),
        )

    def _chosen(self, model: TextGenerator, features: NDArray[Any], seeds: Seeds) -> Tokens:
        """Up to `rows` rows that are long enough, drawn at random, as tokens."""
        least = max(self.prefixes) + self.suffix
        tokens = model.encode_rows(features)
        usable = long_enough(tokens, least)
        if not len(usable):
            raise IncompatibleError(
                f"attack {self.name!r}: no row has {least} tokens, the longest prefix and its suffix: lower prefixes "
                "or suffix, or raise data.text_length and the trainer's length"
            )
        chosen: Tokens = tokens[np.sort(seeds.generator().permutation(usable)[: self.rows])]
        return chosen

    def _half(self, model: TextGenerator, rows: Tokens) -> Half:
        longest = max(self.prefixes)
        return Half(
            rows,
            tuple(continued_greedily(model, rows, k, self.suffix) for k in sorted(set(self.prefixes))),
            among_beams(model, rows, longest, self.suffix, self.beams),
            sampled_log_probabilities(model, rows, longest, self.suffix, self.sampling()),
        )

    def _prompted(self, members: Half, others: Half, confidence: float) -> dict[str, Measure]:
        pairs = {
            f"extracted_greedily_{m.prefix}": (m.exact, o.exact)
            for m, o in zip(members.continued, others.continued, strict=True)
        }
        pairs[f"extracted_by_beams_{max(self.prefixes)}"] = (members.beams, others.beams)
        for n in self.queries:
            pairs[f"discoverable_{n}"] = (
                discoverable(members.log_probabilities, n, self.probability),
                discoverable(others.log_probabilities, n, self.probability),
            )
        return {name: compared(hits, baseline, confidence) for name, (hits, baseline) in pairs.items()}

    def _unprompted(self, model: TextGenerator, stage: Stage, seeds: Seeds) -> dict[str, Measure]:
        """Precision of each ranking of texts that the model writes without being given a row."""
        if not self.samples:
            return {}
        count = min(self.sample_tokens, model.context + 1 - self.prompt_tokens)
        prompts: list[Tokens] = []
        if len(stage.population) and count > 0:
            drawn = seeds.at("prompts")
            prompts = prompts_of(model, stage.population.features, self.samples, self.prompt_tokens, seeds=drawn)
        if not prompts:
            missing = Measure(None, reason=f"no public row has the {self.prompt_tokens} tokens of a prompt")
            return {"verbatim_top_perplexity": missing}
        texts = written_randomly(model, prompts, count, self.sampling(), seeds=seeds.at("samples"))
        out = self._precisions(model, texts, stage, self._reference(stage, seeds))
        few = prompts[: max(1, self.samples // self.beams)]
        beams = written_by_beams(model, few, count, self.beams)
        ranked = self._precisions(model, beams, stage, None)
        return out | {"verbatim_top_beams": ranked["verbatim_top_perplexity"]}

    def _precisions(
        self, model: TextGenerator, texts: Written, stage: Stage, reference: TextGenerator | None
    ) -> dict[str, Measure]:
        features, inside = stage.private.features, stage.inside
        hits = verbatim(texts.texts, features[inside], self.verbatim_bytes)
        chance = verbatim(texts.texts, features[~inside], self.verbatim_bytes)
        out = {"verbatim_all": compared(hits, chance, stage.confidence)}
        for name, scores in rankings(model, texts, reference).items():
            best = np.argsort(-scores, kind="stable")[: self.top]
            key = f"verbatim_top_{name.replace('-', '_')}"
            out[key] = compared(hits[best], chance[best], stage.confidence)
        return out

    def _reference(self, stage: Stage, seeds: Seeds) -> TextGenerator | None:
        """A model of public rows by the same trainer without protection, if one is wanted."""
        if not self.reference:
            return None
        trainer = stage.trainer
        plain = trainer.unprotected() if hasattr(trainer, "unprotected") else trainer
        if getattr(plain, "nominal_rows", None) is not None:
            plain = replace(plain, nominal_rows=None)
        everything = np.ones(len(stage.population), dtype=bool)
        trained = plain.fit(stage.population, everything, seeds=seeds.at("reference"), device=stage.device)
        return generator_of(trained.target)

    def _threat(self) -> Mapping[str, str]:
        longest = max(self.prefixes)
        return {
            "holds": "the trained model's probabilities of the next token",
            "knows": f"the first {', '.join(map(str, sorted(set(self.prefixes))))} tokens of a row; for untargeted "
            f"texts {self.prompt_tokens} tokens of public text",
            "assumes": f"a success is the exact next {self.suffix} tokens; an untargeted text counts that shares "
            f"{self.verbatim_bytes} bytes in a row with a training row",
            "measures": f"shares of rows, from {longest} tokens also for n random continuations of which one is right "
            f"with probability {self.probability:g}, next to rows that were not trained on",
        }

    def _examples(self, model: TextGenerator, members: Half) -> tuple[Example, ...]:
        """The members whose rest is likeliest."""
        last = members.continued[-1]
        best = np.argsort(-members.log_probabilities, kind="stable")[:SHOWN]
        shown = []
        for k in best:
            prefix, row = members.rows[k, : last.prefix], members.rows[k, : last.prefix + self.suffix]
            written = model.decode(np.concatenate([prefix, last.greedy[k]]))
            label = f"first {last.prefix} tokens given, {self.suffix} to find"
            log = float(members.log_probabilities[k])
            score = round(math.exp(log), 6)
            shown.append(Example("text", label, model.decode(row), written, score, "probability of one random try"))
        return tuple(shown)

    def _by_prefix(self, members: Half, others: Half, confidence: float) -> Series:
        lines = [
            _line(name, [c.prefix for c in half.continued], [c.exact for c in half.continued], confidence)
            for name, half in (("training rows", members), (NEVER_TRAINED, others))
        ]
        return Series("Rows continued exactly, greedily", "tokens of prefix", "share of rows", tuple(lines))

    def _by_queries(self, members: Half, others: Half) -> Series:
        """Shares of discoverable rows, which follow from p_z for any number of queries."""
        counts = [round(10 ** (k / 2)) for k in range(2 * MOST_QUERIES + 1)]
        x = tuple(float(n) for n in counts)
        lines = [
            Line(f"training rows, p = {p:g}", x, discoverable_share(members.log_probabilities, counts, p))
            for p in sorted({0.1, self.probability, 0.9})
        ]
        chance = discoverable_share(others.log_probabilities, counts, self.probability)
        lines.append(Line(f"{NEVER_TRAINED}, p = {self.probability:g}", x, chance))
        return Series(
            "Rows found in n random continuations", "continuations n", "share of rows", tuple(lines), x_scale="log"
        )


def compared(hits: BoolArray, baseline: BoolArray, confidence: float) -> Measure:
    """The share of hits with its interval, beside the same share where nothing was trained on."""
    if not len(hits):
        return Measure(None, reason="the model wrote no text")
    share = binomial_interval(int(hits.sum()), len(hits), confidence)
    chance = binomial_interval(int(baseline.sum()), len(baseline), confidence)
    other = Measure(chance.value, chance.low, chance.high, len(baseline), name=NEVER_TRAINED)
    return Measure(share.value, share.low, share.high, len(hits), other)


def _line(name: str, x: Sequence[int], hits: Sequence[BoolArray], confidence: float) -> Line:
    shares = [binomial_interval(int(h.sum()), len(h), confidence) for h in hits]
    return Line(
        name,
        tuple(map(float, x)),
        tuple(s.value for s in shares),
        tuple(s.low for s in shares),
        tuple(s.high for s in shares),
    )
