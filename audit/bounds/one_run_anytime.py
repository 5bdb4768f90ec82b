"""`one-run-anytime`: one-run guesses revealed one by one, most confident first; no number of guesses to choose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..types import Validity
from .counts import GuessSequence
from .method import Certifying
from .search import first_power_of_two, last_true

GAINS = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999])
"""How far each bet puts the chance of a correct guess from q towards 1; the bets share the capital equally."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """How delta > 0 is paid: `forgiven` correct guesses are not counted, and the capital must reach 1 / `alpha`."""

    forgiven: int
    alpha: float

    @classmethod
    def of(cls, canaries: int, delta: float, alpha: float) -> Allowance:
        """The least forgiveness i - 1 for which P[F >= i] <= canaries delta / i is at most alpha / 2."""
        excess = canaries * delta
        least = max(1, math.ceil(excess / (alpha / 2)))
        return cls(least - 1, alpha - excess / least)


@dataclass(frozen=True, slots=True)
class OneRunAnytime(Certifying[GuessSequence]):
    """The largest epsilon against which a gambler's capital, betting on correct guesses, ever reached 1 / alpha.

    Under epsilon-DP each guess is correct with probability at most q = e^eps / (1 + e^eps) given the output and the
    truth so far, so the capital is a supermartingale (Ville 1939). Any mechanism, add-remove or zero-out adjacency,
    fair independent coins; any order and any stopping rule that use only the output and the truth revealed so far.
    Ours; proofs in docs/bounds/one-run-anytime.md. Related: Keinan, Shenfeld and Ligett (2025, arXiv 2503.07199).
    """

    name: ClassVar[str] = "one-run-anytime"
    counts_type: ClassVar[type] = GuessSequence
    anytime: ClassVar[bool] = True

    def validity(self, delta: float) -> Validity:
        """Anytime at delta = 0. At delta > 0 the written proof awaits its review: an estimate, which never decides."""
        return Validity.ANYTIME if delta == 0 else Validity.ESTIMATE

    def epsilon_lower(self, counts: GuessSequence, *, delta: float, alpha: float) -> float:
        """The largest epsilon rejected at any time."""
        self.check_levels(delta, alpha)
        allowance = Allowance.of(counts.canaries, delta, alpha)
        correct = np.cumsum(np.array(counts.correct, dtype=np.int64))
        wrong = np.arange(1, len(correct) + 1) - correct
        # The capital grows with each correct guess only, so its maximum is at the last one before a wrong guess.
        peak = np.append(wrong[1:] > wrong[:-1], True)
        counted = np.maximum(correct[peak] - allowance.forgiven, 0)
        needed = -math.log(allowance.alpha)

        def rejected(epsilon: float) -> bool:
            return bool(np.max(log_capital(counted, wrong[peak], epsilon)) >= needed)

        if not rejected(0.0):
            return 0.0
        return last_true(rejected, 0.0, first_power_of_two(lambda x: not rejected(x)))


def log_capital(correct: NDArray[np.int64], wrong: NDArray[np.int64], epsilon: float) -> NDArray[np.float64]:
    """ln of the capital after `correct` and `wrong` guesses (arrays of one shape); it falls with epsilon.

    A bet with gain f multiplies its capital by q_f / q = 1 + f e^-epsilon when right, (1 - q_f) / (1 - q) = 1 - f
    when wrong, where q_f = q + (1 - q) f.
    """
    won = np.log1p(GAINS * math.exp(-epsilon))
    lost = np.log1p(-GAINS)
    bets = np.multiply.outer(correct, won) + np.multiply.outer(wrong, lost)
    top = np.max(bets, axis=-1, keepdims=True)
    return np.asarray(np.log(np.mean(np.exp(bets - top), axis=-1)) + top[..., 0])
