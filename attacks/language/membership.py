"""Was this text trained on? Six statistics of a language model's token probabilities."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, FloatArray, Needs, Query, Scores
from ..parameters import require_choice, require_integer, require_number, require_shadows
from .queries import LoweredStatistics, TokenStatistics, text_of

Statistic = Literal["loss", "zlib", "lower-case", "min-k", "min-k++", "reference"]
STATISTICS = ("loss", "zlib", "lower-case", "min-k", "min-k++", "reference")
SMALLEST = 1e-6
"""Least standard deviation that a token's surprise is divided by: a sure model has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextMembership:
    """One score per record of text, higher for more likely inside.

    `statistic`: "loss", mean log-probability of a token (Yeom et al. 2018, arXiv 1709.01604); "zlib", summed loss over
    the text's compressed size, and "lower-case", loss over the loss of the lower-cased text (Carlini et al. 2021, arXiv
    2012.07805; signs turned); "min-k", mean of the `share` least likely tokens (Shi et al. 2024, arXiv 2310.16789);
    "min-k++", the same after each token's log-probability is standardised by the model's own law at its place (Zhang et
    al. 2025, arXiv 2404.02936); "reference", loss relative to the mean over `shadows` models (2012.07805, section 5).
    Read it beside the blind baseline: a split that words alone give away says nothing about the model.
    """

    name: ClassVar[str] = "text-membership"
    version: ClassVar[str] = "1"

    statistic: Statistic
    share: float = 0.2
    shadows: int = 0

    def __post_init__(self) -> None:
        require_choice(self.name, "statistic", self.statistic, STATISTICS)
        require_number(self.name, "share", self.share, low=0.001, high=1.0)
        require_integer(self.name, "shadows", self.shadows, least=1 if self.statistic == "reference" else 0)
        if self.shadows and self.statistic != "reference":
            raise IncompatibleError(f"attack {self.name!r}: {self.statistic!r} reads no shadows, got {self.shadows}")

    @property
    def needs(self) -> Needs:
        """Probabilities of every next token."""
        queries: tuple[Query, ...] = (TokenStatistics(),)
        if self.statistic == "lower-case":
            queries = (*queries, LoweredStatistics())
        return Needs(Access.LOGITS, self.shadows, queries=queries, features=self.statistic == "zlib")

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """As in `Attack`; draws nothing from `seeds`."""
        require_shadows(self.name, "shadows", evidence, self.shadows)
        answers = evidence.answers[TokenStatistics.name]
        tokens = np.asarray(answers.target, np.float64)
        return Scores(self._values(tokens, answers.shadows, evidence), evidence.records)

    def _values(self, tokens: NDArray[np.float64], shadows: FloatArray, evidence: Evidence) -> NDArray[np.float64]:
        if self.statistic == "min-k":
            return least_share(tokens[..., 0], tokens[..., 3], self.share)
        if self.statistic == "min-k++":
            surprise = (tokens[..., 0] - tokens[..., 1]) / np.maximum(tokens[..., 2], SMALLEST)
            return least_share(surprise, tokens[..., 3], self.share)
        own = mean_log_probability(tokens)
        if self.statistic == "zlib":
            assert evidence.features is not None
            sizes = np.array([len(zlib.compress(text_of(row))) for row in evidence.features])
            return np.asarray(tokens[..., 0].sum(axis=1) / sizes, np.float64)
        if self.statistic == "lower-case":
            lowered = mean_log_probability(np.asarray(evidence.answers[LoweredStatistics.name].target, np.float64))
            return -own / np.minimum(lowered, -SMALLEST)
        if self.statistic == "reference":
            others = [mean_log_probability(np.asarray(s, np.float64)) for s in shadows[: self.shadows]]
            return np.asarray(own - np.mean(others, axis=0), np.float64)
        return own


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
