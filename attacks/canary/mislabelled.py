"""Canaries with a wrong label: records that only a model which has seen them can fit.

Steinke, Nasr, Jagielski 2023 (arXiv 2305.08846) insert many such records into one training run, each by its own coin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import Access, BoolArray, Evidence, Needs, Rows, Scores
from ..membership.moments import logit_moments
from ..membership.signals import logit
from ..parameters import require_integer, require_shadows


@dataclass(frozen=True, slots=True, kw_only=True)
class MislabelledCanary:
    """Crafts `canaries` mislabelled records; the runner inserts each into the target, or not, by its own fair coin.

    Score: the logit of the wrong label under the target, higher for a lower loss on it. With `shadows` > 0 the mean
    logit over shadows trained without the canary is taken off: some wrong labels are plausible to every model
    (difficulty calibration, Watson, Guo, Cormode, Sablayrolles 2022, arXiv 2111.08440).
    """

    name: ClassVar[str] = "canary"
    crafts_records: ClassVar[bool] = True
    """The runner asks `make_canaries` for the records to audit instead of taking them from the data."""

    canaries: int = 1000
    shadows: int = 0

    def __post_init__(self) -> None:
        require_integer(self.name, "canaries", self.canaries, least=1)
        require_integer(self.name, "shadows", self.shadows, least=0)
        if self.shadows == 1:
            raise ConfigError("attack 'canary': shadows must be 0 or at least 2 (one complementary pair), got 1")

    @property
    def needs(self) -> Needs:
        """Logits of the target, and of `shadows` models that saw other halves of the canaries."""
        return Needs(access=Access.LOGITS, shadows=self.shadows)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """One score per canary, higher for more likely inside; draws nothing from `seeds`.

        A canary that every shadow saw is calibrated by the average over the others. `IncompatibleError` when there
        are too few shadows, or none was trained without any canary.
        """
        signal = logit(evidence.target, evidence.labels)
        if not self.shadows:
            return Scores(signal, evidence.records)
        require_shadows(self.name, "shadows", evidence, self.shadows)
        outside = logit_moments(evidence, self.shadows).outside
        seen = outside.count > 0
        if not seen.any():
            raise ConfigError("attack 'canary': every shadow saw every canary: leave each out of half of the shadows")
        return Scores(signal - np.where(seen, outside.mean, outside.mean[seen].mean()), evidence.records)

    def make_canaries(self, rows: Rows, count: int, *, seeds: Seeds) -> Rows:
        """The module's `make_canaries`, where the runner looks for it."""
        return make_canaries(rows, count, seeds=seeds)


def make_canaries(rows: Rows, count: int, *, seeds: Seeds) -> Rows:
    """`count` canaries: features of public `rows`, each with a wrong label drawn uniformly, ids `canary-000017`.

    No two share features and label, and none carries a label that its features have anywhere in `rows`. Every feature
    row serves once before any serves twice, so canaries share features only beyond the number of distinct rows.
    The choice depends on `rows` and `seeds` alone. `ConfigError` when there are fewer such pairs than `count`.
    """
    if count < 1:
        raise ConfigError(f"canaries must be at least 1, got {count}")
    first, allowed = _wrong_labels(rows)
    possible = int(allowed.sum())
    if possible < count:
        raise ConfigError(
            f"canaries: {count} asked for, {rows.name} allows {possible} ({len(first)} distinct feature rows, "
            f"{rows.classes} classes): ask for at most {possible} or give more public rows"
        )
    generator = seeds.generator()
    source, labels = _draw(allowed, count, generator)
    order = generator.permutation(count)
    return Rows(
        rows.features[first[source[order]]],
        labels[order].astype(np.int64),
        tuple(f"canary-{number:06d}" for number in range(count)),
        rows.classes,
        f"{rows.name}-canaries",
    )


def _wrong_labels(rows: Rows) -> tuple[NDArray[np.int64], BoolArray]:
    """Position of the first of each distinct feature row, and which labels (distinct, classes) are wrong for it."""
    number: dict[bytes, int] = {}
    first: list[int] = []
    group = np.empty(len(rows), dtype=np.int64)
    for position in range(len(rows)):
        key = np.ascontiguousarray(rows.features[position]).tobytes()
        if key not in number:
            number[key] = len(first)
            first.append(position)
        group[position] = number[key]
    allowed = np.ones((len(first), rows.classes), dtype=np.bool_)
    allowed[group, rows.labels] = False
    return np.array(first, dtype=np.int64), allowed


def _draw(
    allowed: BoolArray, count: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers and labels of `count` allowed pairs: a random order of labels per row, used round by round."""
    keys = np.where(allowed, generator.random(allowed.shape), np.inf)
    label_order = np.argsort(keys, axis=1)
    left = allowed.sum(axis=1)
    source: list[NDArray[np.int64]] = []
    labels: list[NDArray[np.int64]] = []
    missing, turn = count, 0
    while missing:
        rows = generator.permutation(np.flatnonzero(left > turn))[:missing]
        source.append(rows)
        labels.append(label_order[rows, turn])
        missing -= len(rows)
        turn += 1
    return np.concatenate(source), np.concatenate(labels)
