"""Population attack (Ye, Maddi, Murakonda, Bindschaedler, Shokri 2022, arXiv 2111.09679, attack P)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, Needs, Scores
from ..parameters import require_choice, require_integer
from .signals import true_class


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationAttack:
    """Share of population records, which nobody trained on, that the target fits worse than this record.

    One minus the score is a p-value: flagging scores of at least 1 - a flags about the share a of non-members. One
    model is enough. `by` `class` compares with population records of the same label, so that a class which is hard for
    everybody is not called non-member; `all` compares with all of them, which orders records as `loss` does. A class
    with fewer than `least` population records is compared with all.
    """

    name: ClassVar[str] = "population"

    by: Literal["class", "all"] = "class"
    least: int = 20

    def __post_init__(self) -> None:
        require_choice(self.name, "by", self.by, ("class", "all"))
        require_integer(self.name, "least", self.least, least=1)

    @property
    def needs(self) -> Needs:
        """The target's loss on the records and on population records."""
        return Needs(access=Access.LOSS, population=True)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """The share in (0, 1), ties split by the signal itself; higher means more likely inside. Draws nothing from
        `seeds`. `ConfigError` without population records."""
        if not len(evidence.population_labels):
            raise ConfigError(
                "attack 'population' compares with population records, got none: hold some out of every model"
            )
        signal = true_class(evidence.target, evidence.labels)
        public = true_class(evidence.population_target, evidence.population_labels)
        score = _share(signal, public)
        if self.by == "class":
            for label in np.unique(evidence.labels):
                peers = public[evidence.population_labels == label]
                if len(peers) >= self.least:
                    here = evidence.labels == label
                    score[here] = _share(signal[here], peers)
        return Scores(score, evidence.records)


def _share(signal: NDArray[np.float64], public: NDArray[np.float64]) -> NDArray[np.float64]:
    """(count below + u) / (population + 1), u in (0, 1) increasing in the signal: many records lie above all others."""
    below = np.searchsorted(np.sort(public), signal, side="left")
    within = 1 / (1 - signal)
    return np.asarray((below + within * (1 - 1e-9)) / (len(public) + 1))
