"""Who is in which model, and what follows: which counts may be taken from scores and which bounds they may feed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bounds.counts import ConfusionCounts, GuessCounts, GuessSequence
from .errors import ConfigError, IncompatibleError
from .seeds import Seeds
from .types import Adjacency, BoolArray, Membership, Selection, Unit


def coin_flips(records: tuple[str, ...], models: int, *, seeds: Seeds, unit: Unit = Unit.RECORD) -> Membership:
    """Every record in every model by its own fair coin.

    A coin depends on the record's id, the model's number and `seeds` only: adding or reordering records changes no
    other coin. Rows are models, columns records.
    """
    salt = seeds.entropy().to_bytes(16, "big")
    blocks = (models + 255) // 256
    bits = np.empty((len(records), blocks * 32), dtype=np.uint8)
    for position, record in enumerate(records):
        for block in range(blocks):
            text = salt + block.to_bytes(4, "big") + record.encode()
            bits[position, 32 * block : 32 * block + 32] = np.frombuffer(hashlib.sha256(text).digest(), np.uint8)
    inside = np.unpackbits(bits, axis=1)[:, :models].astype(bool).T
    return Membership(np.ascontiguousarray(inside), records, unit)


def paired_coin_flips(records: tuple[str, ...], models: int, *, seeds: Seeds, unit: Unit = Unit.RECORD) -> Membership:
    """Shadow models in complementary pairs: model 2j by fair coins, model 2j + 1 holds exactly the other records.

    Each model by itself follows the target's law, and every record is outside exactly half of the models, so that
    attacks with few shadows always have both sides.
    """
    if models % 2:
        raise ConfigError(f"shadows come in complementary pairs, got {models}; use an even number")
    half = coin_flips(records, models // 2, seeds=seeds, unit=unit).inside
    inside = np.empty((models, len(records)), dtype=bool)
    inside[0::2], inside[1::2] = half, ~half
    return Membership(inside, records, unit)


@dataclass(frozen=True, slots=True)
class CoinTrials:
    """Scores of many records of ONE model, each record inside by its own fair coin: only the one-run family applies.

    `scores` float (records,), higher for more likely inside; `inside` bool (records,).
    """

    scores: NDArray[np.float64]
    inside: BoolArray
    records: tuple[str, ...]
    unit: Unit = Unit.RECORD
    adjacency: Adjacency = Adjacency.ADD_REMOVE

    bounds = ("one-run", "one-run-fdp", "one-run-anytime")

    def __post_init__(self) -> None:
        check_scores(self.scores, self.inside)

    def count(self, guesses: int) -> GuessCounts:
        """Guess `inside` for the highest half of `guesses` scores and `outside` for the lowest half.

        `guesses` must be fixed before the truth is known; ties are broken by a digest of the record id, which the
        coins do not depend on.
        """
        outside, inside = self._guessed(guesses)
        correct = int(np.sum(~self.inside[outside])) + int(np.sum(self.inside[inside]))
        return GuessCounts(canaries=len(self.scores), guesses=guesses, correct=correct)

    def sequence(self, guesses: int) -> GuessSequence:
        """The same guesses one by one: the highest score, the lowest, the second highest, and so on."""
        outside, inside = self._guessed(guesses)
        correct = np.empty(guesses, dtype=bool)
        correct[0::2] = self.inside[inside[::-1]]
        correct[1::2] = ~self.inside[outside]
        return GuessSequence(correct=tuple(correct.tolist()), canaries=len(self.scores))

    def _guessed(self, guesses: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Positions guessed outside (lowest score first) and inside (highest score last)."""
        canaries = len(self.scores)
        if not 1 <= guesses <= canaries:
            raise ConfigError(f"guesses must lie in 1..{canaries} (the number of canaries), got {guesses}")
        order = np.lexsort((tie_break(self.records), self.scores))
        low = guesses // 2
        return order[:low], order[canaries - (guesses - low) :]


@dataclass(frozen=True, slots=True)
class RunTrials:
    """One score for each of many INDEPENDENT models, the canary inside or outside: many-run bounds apply."""

    scores: NDArray[np.float64]
    inside: BoolArray
    unit: Unit = Unit.RECORD
    adjacency: Adjacency = Adjacency.ADD_REMOVE

    bounds = ("clopper-pearson", "gdp", "bayesian")

    def __post_init__(self) -> None:
        check_scores(self.scores, self.inside)

    def count(self, threshold: float) -> ConfusionCounts:
        """Guess `inside` where the score is at least `threshold`, which must be fixed beforehand."""
        guessed = self.scores >= threshold
        return ConfusionCounts(
            true_positives=int(np.sum(guessed & self.inside)),
            false_positives=int(np.sum(guessed & ~self.inside)),
            members=int(self.inside.sum()),
            nonmembers=int((~self.inside).sum()),
        )

    def holdout(self, *, seeds: Seeds) -> tuple[RunTrials, RunTrials]:
        """A random half to choose the threshold on, and the other half to test it on."""
        chosen = np.zeros(len(self.scores), dtype=bool)
        rng = seeds.generator()
        for side in (self.inside, ~self.inside):
            positions = rng.permutation(np.flatnonzero(side))
            chosen[positions[: len(positions) // 2]] = True
        if not (0 < self.inside[chosen].sum() < chosen.sum()):
            raise ConfigError("too few runs to choose a threshold on one half: give --threshold, fixed beforehand")
        return (
            RunTrials(self.scores[chosen], self.inside[chosen], self.unit, self.adjacency),
            RunTrials(self.scores[~chosen], self.inside[~chosen], self.unit, self.adjacency),
        )


def check_scores(scores: NDArray[np.float64], inside: BoolArray) -> None:
    """Refuse NaN, unequal lengths and one class only."""
    if scores.shape != inside.shape or scores.ndim != 1:
        raise IncompatibleError(f"scores have shape {scores.shape}, inside {inside.shape}; both must be (records,)")
    missing = int(np.isnan(scores).sum())
    if missing:
        raise ConfigError(f"score: {missing} of {len(scores)} values are NaN; remove these records or score them")
    members = int(inside.sum())
    if members in {0, len(inside)}:
        raise ConfigError(
            f"inside: {members} of {len(inside)} records are inside; both members and non-members are needed"
        )


def tie_break(records: tuple[str, ...]) -> NDArray[np.uint64]:
    """A fixed pseudo-random number per record id, which no coin depends on."""
    digests = (hashlib.blake2b(r.encode(), digest_size=8).digest() for r in records)
    return np.fromiter((int.from_bytes(d, "big") for d in digests), dtype=np.uint64, count=len(records))


HOLDOUT = Selection("holdout")
