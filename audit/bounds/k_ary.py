"""`k-ary`: one model with many slots, each empty or holding one of a pool of secrets, to be found by rank."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..types import Validity
from .counts import SlotCounts
from .method import Certifying
from .one_run import largest_log_odds


@dataclass(frozen=True, slots=True)
class KAry(Certifying[SlotCounts]):
    """The largest epsilon at which so many hits have probability at most alpha.

    Under epsilon-DP a slot is hit with posterior odds at most fill / (1 - fill) * e^epsilon * top / pool, whatever the
    other slots hold. Any mechanism, add-remove or zero-out adjacency; slots are filled by their own coins and secrets
    are uniform. Ours; the proof at delta = 0 and what is proved at delta > 0 are in docs/bounds/k-ary.md. The delta
    term follows Steinke, Nasr and Jagielski (2023, arXiv 2305.08846, Theorem 5.2); that of `k-ary-markov` is proved.
    """

    name: ClassVar[str] = "k-ary"
    counts_type: ClassVar[type] = SlotCounts

    def validity(self, delta: float) -> Validity:
        """Frequentist at delta = 0. At delta > 0 the formula has no reviewed proof: an estimate, never deciding."""
        return Validity.FREQUENTIST if delta == 0 else Validity.ESTIMATE

    def epsilon_lower(self, counts: SlotCounts, *, delta: float, alpha: float) -> float:
        """The largest posterior log odds not explained, less the prior log odds of a hit."""
        self.check_levels(delta, alpha)
        prior, excess = prior_log_odds(counts), counts.slots * counts.fill_probability * delta
        odds = largest_log_odds(counts.hits, counts.slots, excess=excess, alpha=alpha, least=prior)
        return max(0.0, odds - prior)


def prior_log_odds(counts: SlotCounts) -> float:
    """ln(o) at epsilon = 0: the log odds of a hit, given that a slot is empty or hit."""
    fill = counts.fill_probability
    return math.log(fill) - math.log1p(-fill) + math.log(counts.top / counts.pool)
