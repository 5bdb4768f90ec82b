"""`one-run`: many canaries in one model, each in or out by its own fair coin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .binomial import ExcessTail, lower_log_odds
from .counts import GuessCounts
from .method import Certifying
from .search import last_true


@dataclass(frozen=True, slots=True)
class OneRun(Certifying[GuessCounts]):
    """The largest epsilon at which so many correct guesses have probability at most alpha.

    Under (epsilon, delta)-DP the number correct is dominated by W + F, W ~ Binomial(guesses, e^eps / (1 + e^eps)),
    E[F] <= 2 canaries delta. Any mechanism, add-remove or zero-out adjacency; the coins are fair and independent, the
    number of guesses is fixed before the truth is read. Steinke, Nasr and Jagielski (2023, arXiv 2305.08846,
    Theorem 5.2).
    """

    name: ClassVar[str] = "one-run"
    counts_type: ClassVar[type] = GuessCounts

    def epsilon_lower(self, counts: GuessCounts, *, delta: float, alpha: float) -> float:
        """Closed form at delta 0, bisection to 1e-12 otherwise."""
        self.check_levels(delta, alpha)
        # The posterior log odds of a bit are at most epsilon.
        return largest_log_odds(counts.correct, counts.guesses, excess=2 * counts.canaries * delta, alpha=alpha)


def largest_log_odds(hits: int, trials: int, *, excess: float, alpha: float, least: float = 0.0) -> float:
    """The largest log odds x >= `least` whose `ExcessTail` is at most `alpha`; `least` if there is none."""
    pure = lower_log_odds(hits, trials, alpha)
    if pure <= least or excess == 0:
        return max(pure, least)
    tail = ExcessTail.of(hits, trials, excess)
    if tail.at(least) > alpha:
        return least
    return last_true(lambda x: tail.at(x) <= alpha, least, pure)
