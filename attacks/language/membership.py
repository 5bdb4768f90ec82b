"""Was this text trained on? Nine statistics of a language model's token probabilities."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import Access, Answers, Evidence, Needs, Query, Rows, Scores
from ..membership.lira import VARIANCES, Lira
from ..parameters import require_choice, require_integer, require_number, require_shadows
from .neighbours import Kind, NeighbourStatistics
from .prefixed import PrefixedStatistics, public_prefix
from .queries import LoweredStatistics, TokenStatistics, text_of

Statistic = Literal["loss", "zlib", "lower-case", "min-k", "min-k++", "reference", "neighbourhood", "recall", "lira"]
STATISTICS = ("loss", "zlib", "lower-case", "min-k", "min-k++", "reference", "neighbourhood", "recall", "lira")
WITH_SHADOWS = {"reference": 1, "lira": 2}
"""Statistics that read shadow models, and the fewest each needs."""
SMALLEST = 1e-6
"""Least standard deviation that a token's surprise is divided by, and least loss: a sure model has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextMembership:
    """One score per record of text, higher for more likely inside.

    `statistic`: "loss", mean log-probability of a token (Yeom et al. 2018, arXiv 1709.01604); "zlib", summed loss over
    the text's compressed size, and "lower-case", loss over the loss of the lower-cased text (Carlini et al. 2021, arXiv
    2012.07805; signs turned); "min-k", mean of the `share` least likely tokens (Shi et al. 2024, arXiv 2310.16789);
    "min-k++", the same after each token's log-probability is standardised by the model's own law at its place (Zhang et
    al. 2025, arXiv 2404.02936); "reference", loss relative to the mean over `shadows` models (2012.07805, section 5);
    "neighbourhood", loss relative to that of `neighbours` texts with the share `swaps` of their places changed (Mattern
    et al. 2023, arXiv 2305.18462; `proposals` as in `NeighbourStatistics`); "recall", log-probability after a text that
    was not trained on over that without it (Xie et al. 2024, arXiv 2406.15968): `prefix`, by default public rows of the
    audit; "lira", the likelihood ratio of the mean log-probability over `shadows` models trained with and without the
    record (Carlini et al. 2022, arXiv 2112.03570), with `variance` and `mode` as in attack 'lira'.
    Read it beside the blind baseline: a split that words alone give away says nothing about the model.
    """

    name: ClassVar[str] = "text-membership"
    version: ClassVar[str] = "2"

    statistic: Statistic
    share: float = 0.2
    shadows: int = 0
    neighbours: int = 10
    swaps: float = 0.15
    proposals: Kind = "model"
    prefix: str = ""
    mode: Literal["online", "offline"] = "online"
    variance: Literal["fixed", "per-example", "global", "bayesian"] = "fixed"

    def __post_init__(self) -> None:
        require_choice(self.name, "statistic", self.statistic, STATISTICS)
        require_number(self.name, "share", self.share, low=0.001, high=1.0)
        require_number(self.name, "swaps", self.swaps, low=0.001, high=1.0)
        require_integer(self.name, "neighbours", self.neighbours, least=1)
        require_choice(self.name, "proposals", self.proposals, ("model", "random-words"))
        require_choice(self.name, "mode", self.mode, ("online", "offline"))
        require_choice(self.name, "variance", self.variance, VARIANCES)
        require_integer(self.name, "shadows", self.shadows, least=WITH_SHADOWS.get(self.statistic, 0))
        if self.shadows and self.statistic not in WITH_SHADOWS:
            raise IncompatibleError(f"attack {self.name!r}: {self.statistic!r} reads no shadows, got {self.shadows}")

    def informed(self, population: Rows) -> TextMembership:
        """This attack with its prefix taken from public rows, if it needs one and has none. Raises `ConfigError` where
        there are none to take it from."""
        if self.statistic != "recall" or self.prefix:
            return self
        prefix = public_prefix(population)
        if not prefix:
            raise ConfigError(
                f"attack {self.name!r}: statistic 'recall' puts text that was not trained on before every record, and "
                "this audit has no public rows of text: give it as prefix = '...'"
            )
        return replace(self, prefix=prefix)

    @property
    def needs(self) -> Needs:
        """Probabilities of every next token."""
        queries: tuple[Query, ...] = (TokenStatistics(),)
        if self.statistic == "lower-case":
            queries = (*queries, LoweredStatistics())
        if self.statistic == "neighbourhood":
            queries = (*queries, NeighbourStatistics(self.neighbours, self.swaps, self.proposals))
        if self.statistic == "recall":
            queries = (PrefixedStatistics(self.prefix),)
        return Needs(Access.LOGITS, self.shadows, queries=queries, features=self.statistic == "zlib")

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:
        """As in `Attack`; draws nothing from `seeds`."""
        require_shadows(self.name, "shadows", evidence, self.shadows)
        if self.statistic == "recall":
            return Scores(recall(_answers(evidence, PrefixedStatistics.name).target), evidence.records)
        answers = _answers(evidence, TokenStatistics.name)
        if self.statistic == "lira":
            return self._ratio(evidence, answers, seeds)
        tokens = np.asarray(answers.target, np.float64)
        if self.statistic in ("min-k", "min-k++"):
            return Scores(self._least_likely(tokens), evidence.records)
        return Scores(self._compared(tokens, answers, evidence), evidence.records)

    def _least_likely(self, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        values = tokens[..., 0]
        if self.statistic == "min-k++":
            values = (values - tokens[..., 1]) / np.maximum(tokens[..., 2], SMALLEST)
        return least_share(values, tokens[..., 3], self.share)

    def _compared(self, tokens: NDArray[np.float64], answers: Answers, evidence: Evidence) -> NDArray[np.float64]:
        """The loss of each record, with its sign turned, relative to something."""
        own = mean_log_probability(tokens)
        if self.statistic == "zlib":
            assert evidence.features is not None
            sizes = np.array([len(zlib.compress(text_of(row))) for row in evidence.features])
            return np.asarray(tokens[..., 0].sum(axis=1) / sizes, np.float64)
        if self.statistic == "lower-case":
            lowered = mean_log_probability(np.asarray(_answers(evidence, LoweredStatistics.name).target, np.float64))
            return -own / np.minimum(lowered, -SMALLEST)
        if self.statistic == "reference":
            others = [mean_log_probability(np.asarray(s, np.float64)) for s in answers.shadows[: self.shadows]]
            return np.asarray(own - np.mean(others, axis=0), np.float64)
        if self.statistic == "neighbourhood":
            neighbours = np.asarray(_answers(evidence, NeighbourStatistics.name).target, np.float64)
            return np.asarray(own - neighbours.mean(axis=1), np.float64)
        return own

    def _ratio(self, evidence: Evidence, answers: Answers, seeds: Seeds) -> Scores:
        """Lira on the mean log-probability, which is handed to it as the logit of a model of two classes."""
        target = mean_log_probability(np.asarray(answers.target, np.float64))
        shadows = [mean_log_probability(np.asarray(s, np.float64)) for s in answers.shadows[: self.shadows]]
        signals = replace(
            evidence,
            labels=np.ones_like(evidence.labels),
            target=_two_classes(target),
            shadows=np.stack([_two_classes(s) for s in shadows]),
            shadow_inside=np.asarray(evidence.shadow_inside[: self.shadows]),
            population_labels=np.zeros(0, np.int64),
            population_target=np.zeros((0, 2)),
            population_shadows=np.zeros((self.shadows, 0, 2)),
            answers={},
        )
        return Lira(shadows=self.shadows, mode=self.mode, variance=self.variance).score(signals, seeds=seeds)


def mean_log_probability(tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the tokens of each record, (records,); 0 for a record without any."""
    return np.asarray(tokens[..., 0].sum(axis=1) / np.maximum(tokens[..., 3].sum(axis=1), 1), np.float64)


def least_share(values: NDArray[np.float64], known: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Mean of the lowest `share` of each record's known values, at least one of them; 0 for a record without any."""
    ordered = np.sort(np.where(known > 0, values, np.inf), axis=1)
    count = np.maximum(1, np.floor(share * known.sum(axis=1))).astype(int)
    kept = np.arange(values.shape[1]) < count[:, None]
    total = np.where(kept & np.isfinite(ordered), ordered, 0.0).sum(axis=1)
    return np.asarray(total / count, np.float64)


def recall(means: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean log-probability after the prefix over that without it; `means` (records, 2) to (records,).

    Both are negative. A text learned by heart loses more by a strange beginning than one that never was certain.
    """
    after, alone = np.asarray(means, np.float64).T
    return np.asarray(after / np.minimum(alone, -SMALLEST), np.float64)


def _answers(evidence: Evidence, query: str) -> Answers:
    found = evidence.answers.get(query)
    if found is None:
        raise IncompatibleError(
            f"attack 'text-membership' reads answers to {query!r}, the evidence has none: let an audit ask the model"
        )
    return found


def _two_classes(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities of two classes, of which the second has the logit `signal`."""
    return np.stack([-np.logaddexp(0, signal), -np.logaddexp(0, -signal)], axis=-1)
