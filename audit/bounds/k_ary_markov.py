"""`k-ary-markov`: the game of `k-ary`, with a delta term that is proved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .binomial import lower_log_odds
from .counts import SlotCounts
from .k_ary import prior_log_odds
from .method import Certifying


@dataclass(frozen=True, slots=True)
class KAryMarkov(Certifying[SlotCounts]):
    """The largest epsilon at which so many hits have probability at most alpha, whatever delta.

    Hits are at most W + F with W ~ Binomial(slots, q), q the largest posterior chance of a hit, and E[F] <= slots *
    fill * delta. F may depend on W, so that only Markov's inequality is used: P[hits >= h] <= P[W >= h - i + 1] +
    slots * fill * delta / i for every i >= 1, and the best i is taken. Equal to `k-ary` at delta = 0. Any mechanism,
    add-remove or zero-out adjacency; slots are filled by their own coins and secrets are uniform. Ours; proof in
    docs/bounds/k-ary.md.
    """

    name: ClassVar[str] = "k-ary-markov"
    counts_type: ClassVar[type] = SlotCounts

    def epsilon_lower(self, counts: SlotCounts, *, delta: float, alpha: float) -> float:
        """The best of closed forms, one for each number of hits that delta may have given away."""
        self.check_levels(delta, alpha)
        excess = counts.slots * counts.fill_probability * delta
        odds = -math.inf
        for given_away in range(1, counts.hits + 1):
            left = alpha - excess / given_away
            if left <= 0:
                continue
            odds = max(odds, lower_log_odds(counts.hits - given_away + 1, counts.slots, left))
            # Nothing is given away at delta = 0, and forgiving more hits only costs.
            if excess == 0:
                break
        return max(0.0, odds - prior_log_odds(counts))
