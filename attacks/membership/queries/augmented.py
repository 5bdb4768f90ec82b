"""What a model answers to variants of a record: probabilities, or only whether it is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ....audit.seeds import Seeds
from ....audit.types import Access, Rows, Trained
from .variants import Kind, Variants


@dataclass(frozen=True, slots=True)
class Augmented:
    """Natural-log class probabilities of `count` variants of every record, the record itself first.

    The views over which LiRA fits a joint law (Carlini et al. 2022, arXiv 2112.03570). Kinds and strength
    are those of `Variants`. Costs `count` queries a record.
    """

    name: ClassVar[str] = "augmented"
    version: ClassVar[str] = "1"
    access: ClassVar[Access] = Access.LOGITS

    count: int = 10
    kind: Kind = "auto"
    strength: float = 0.1

    def __post_init__(self) -> None:
        Variants(self.count, self.kind, self.strength)

    def ask(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:  # noqa: ARG002
        """float32 (records, count, classes). `seeds` draw the noise, the same for every model."""
        variants = Variants(self.count, self.kind, self.strength).of(rows.features, seeds=seeds)
        answers = [trained.target.log_probabilities(variant) for variant in variants]
        return np.stack(answers, axis=1).astype(np.float32, copy=False)


@dataclass(frozen=True, slots=True)
class Votes:
    """Whether the model's label is right on `count` variants of every record, the record itself first: 1 or 0.

    Needs labels only (Choquette-Choo et al. 2021, arXiv 2007.14321). Costs `count` queries a record.
    """

    name: ClassVar[str] = "votes"
    version: ClassVar[str] = "1"
    access: ClassVar[Access] = Access.LABELS

    count: int = 13
    kind: Kind = "auto"
    strength: float = 0.1

    def __post_init__(self) -> None:
        Variants(self.count, self.kind, self.strength)

    def ask(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:  # noqa: ARG002
        """float32 (records, count) of zeros and ones. `seeds` draw the noise, the same for every model."""
        variants = Variants(self.count, self.kind, self.strength).of(rows.features, seeds=seeds)
        votes = [trained.target.log_probabilities(v).argmax(axis=1) == rows.labels for v in variants]
        return np.stack(votes, axis=1).astype(np.float32)
