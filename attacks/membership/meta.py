"""Stacked meta-attack: the scores of several attacks, weighed by a classifier taught on shadow models only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.registry import nearest
from ...audit.restaging import opponents_of, restaged
from ...audit.seeds import Seeds
from ...audit.types import Access, Attack, Evidence, Needs, Scores
from ..parameters import require_choice, require_integer, require_shadows
from .classifiers import Kind, fit_classifier, log_odds, supported_kinds
from .difficulty import DifficultyCalibration
from .lira import Lira
from .loss import LossThreshold
from .modified_entropy import ModifiedEntropy
from .population import PopulationAttack
from .rmia import Rmia

BASES: dict[str, Callable[[int], Attack]] = {
    "loss": lambda _: LossThreshold(),
    "modified-entropy": lambda _: ModifiedEntropy(),
    "population": lambda _: PopulationAttack(),
    "difficulty": lambda shadows: DifficultyCalibration(shadows=shadows),
    "lira": lambda shadows: Lira(shadows=shadows, variance="fixed"),
    "lira-bayesian": lambda shadows: Lira(shadows=shadows, variance="bayesian"),
    "lira-offline": lambda shadows: Lira(shadows=shadows, mode="offline"),
    "rmia": lambda shadows: Rmia(references=shadows),
}
"""The attacks that may be stacked, built for a number of shadows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaAttack:
    """Each shadow in turn plays the target: the base attacks score it with the other shadows, its own membership is
    the truth, and a classifier learns which mixture of scores tells members. Then the real target is scored likewise.

    A player's exact complement is left out of its opponents: an attacker has no model trained on exactly what the
    target was not. The real target's membership is never seen (the idea of stacking: Wolpert 1992; of shadows that
    play the target: Shokri et al. 2017, arXiv 1610.05820). Scores enter as normal deviates of their ranks, so that no
    attack's scale matters. `attacks` are keys of `BASES`; at most `players` shadows play; `classifier` is `logistic`
    (with squares and products of the scores) or another one.
    """

    name: ClassVar[str] = "meta"

    shadows: int = 16
    attacks: tuple[str, ...] = tuple(BASES)
    classifier: Kind = "logistic"
    players: int = 8

    def __post_init__(self) -> None:
        # Two opponents at least must be left when a pair plays.
        require_integer(self.name, "shadows", self.shadows, least=4)
        require_integer(self.name, "players", self.players, least=1)
        require_choice(self.name, "classifier", self.classifier, supported_kinds())
        for base in self.attacks:
            if base not in BASES:
                raise ConfigError(f"attack 'meta': unknown base attack {base!r}{nearest(base, list(BASES))}")
        if not self.attacks:
            raise ConfigError("attack 'meta': attacks is empty; name at least one")

    @property
    def needs(self) -> Needs:
        """Probabilities of the target and of `shadows` models, and of population records where a base attack needs."""
        population = any(BASES[name](self.shadows).needs.population for name in self.attacks)
        return Needs(access=Access.LOGITS, shadows=self.shadows, population=population)

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:
        """Log-odds of membership; higher means more likely inside. `IncompatibleError` with too few shadows, or when
        none can play because too few others are left."""
        require_shadows(self.name, "shadows", evidence, self.shadows)
        inside = np.asarray(evidence.shadow_inside[: self.shadows], dtype=np.bool_)
        features, truth = [], []
        opponents = self.shadows - 2
        for player in range(min(self.players, self.shadows)):
            others = opponents_of(player, inside)[:opponents]
            if len(others) == opponents and inside[player].any() and not inside[player].all():
                features.append(self._features(restaged(evidence, player, others), opponents, seeds=seeds))
                truth.append(inside[player])
        if not features:
            raise IncompatibleError("attack 'meta': no shadow can play the target: train them on different records")
        model = fit_classifier(self.classifier, np.concatenate(features), np.concatenate(truth), seeds=seeds.at("meta"))
        # The target meets as many shadows as each player did: scores of more shadows would follow another law.
        return Scores(log_odds(model, self._features(evidence, opponents, seeds=seeds)), evidence.records)

    def _features(self, evidence: Evidence, shadows: int, *, seeds: Seeds) -> NDArray[np.float64]:
        """(records, features): rank-normal scores of the base attacks; with products where the classifier is linear."""
        columns = [
            _rank_normal(BASES[name](shadows).score(evidence, seeds=seeds.at(name)).values) for name in self.attacks
        ]
        plain = np.stack(columns, axis=1)
        if self.classifier != "logistic":
            return plain
        first, second = np.triu_indices(plain.shape[1])
        return np.concatenate([plain, plain[:, first] * plain[:, second]], axis=1)


def _rank_normal(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(ndtri((rankdata(values) - 0.5) / len(values)))
