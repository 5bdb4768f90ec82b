"""`rank`: independent runs whose secret is drawn from a pool: the false positive rate is known, not estimated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .binomial import lower_limit
from .counts import RankCounts
from .method import Certifying


@dataclass(frozen=True, slots=True)
class Rank(Certifying[RankCounts]):
    """epsilon >= ln((p - delta) * pool / top), p the lower confidence limit of the hit rate at the full alpha.

    Any mechanism, add-remove adjacency; each run draws its canary uniformly and independently of the rest, all
    candidates are scored, ties count against the attack, `top` is fixed beforehand. Ours; proof in
    docs/bounds/rank.md. The one-sided limit is Clopper and Pearson (1934).
    """

    name: ClassVar[str] = "rank"
    counts_type: ClassVar[type] = RankCounts

    def epsilon_lower(self, counts: RankCounts, *, delta: float, alpha: float) -> float:
        """The log ratio of the hit rate with the canary to the hit rate without it, top / pool."""
        self.check_levels(delta, alpha)
        excess = lower_limit(counts.hits, counts.runs, alpha) - delta
        if excess <= 0:
            return 0.0
        return max(0.0, math.log(excess) + math.log(counts.pool / counts.top))
