"""Membership from the released bits alone: likelihood of the mask under shadow masks with and without the record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.seeds import Seeds
from ...audit.types import Access, BoolArray, Evidence, Needs, Scores
from ..parameters import require_choice, require_integer, require_shadows
from .queries import MaskBits
from .rates import best_bits, chunks, excess_share, log_ratio, prior_strength, rates_of, smoothed

HALF = 0.5
"""Jeffreys' half success and half failure (1946), spread around the common rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskLikelihood:
    """Is the target's mask more like those of `shadows` trained with the record, or without it?

    The attacker holds the bits, not the record's loss: nothing is put through the network. Every bit has a rate of ones
    on either side, and the score is the log-likelihood ratio of independent bits. Most of tens of thousands of bits say
    nothing about a record, and with few shadows their noise is all one would see. `selection` "shrinkage": rates are
    drawn towards the bit's common rate as far as chance explains their differences (Beta laws of one strength, by the
    method of moments over all records); a bit of rate 0 or 1 in all shadows says nothing. "cross-fit": one half of
    the shadows picks each record's `keep` bits of largest difference, the other half gives their rates, and in turn.
    """

    name: ClassVar[str] = "mask-likelihood"

    shadows: int = 32
    selection: Literal["shrinkage", "cross-fit"] = "shrinkage"
    keep: int = 1000

    def __post_init__(self) -> None:
        require_choice(self.name, "selection", self.selection, ("shrinkage", "cross-fit"))
        require_integer(self.name, "shadows", self.shadows, least=8)
        require_integer(self.name, "keep", self.keep, least=1)

    @property
    def needs(self) -> Needs:
        """The masks of the target and of `shadows` models."""
        return Needs(access=Access.WEIGHTS, shadows=self.shadows, queries=(MaskBits(),))

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:  # noqa: ARG002
        """Log-likelihood ratio, higher for more likely inside; draws nothing from `seeds`.

        `IncompatibleError` where the shadows' masks have another length, or no record has shadows on both sides.
        """
        require_shadows(self.name, "shadows", evidence, self.shadows)
        answers = evidence.answers[MaskBits.name]
        target = _bits(answers.target)
        theirs = np.stack([_bits(answers.shadows[k]) for k in range(self.shadows)])
        if theirs.shape[1:] != target.shape:
            raise IncompatibleError(
                f"attack {self.name!r}: the target's mask has {target.size} bits, the shadows' {theirs.shape[1]}"
            )
        inside = np.asarray(evidence.shadow_inside[: self.shadows], np.bool_)
        sides = inside.any(axis=0) & ~inside.all(axis=0)
        if not sides.any():
            raise IncompatibleError(
                f"attack {self.name!r}: no record is in some shadow models and out of others: train shadows on "
                "different parts of the audit records"
            )
        judge = shrunk_scores if self.selection == "shrinkage" else self._cross_fitted
        return Scores(judge(target, theirs, inside), evidence.records)

    def _cross_fitted(self, target: BoolArray, theirs: BoolArray, inside: BoolArray) -> NDArray[np.float64]:
        # Complementary pairs stay together, so that both halves have each record on both sides.
        fold = (np.arange(len(theirs)) // 2) % 2 == 0
        total = np.zeros(inside.shape[1])
        for picking, rating in ((fold, ~fold), (~fold, fold)):
            total += selected_scores(
                target, theirs[picking], inside[picking], theirs[rating], inside[rating], self.keep
            )
        return total


def shrunk_scores(target: BoolArray, theirs: BoolArray, inside: BoolArray) -> NDArray[np.float64]:
    """(records,) from the target's bits (d,), shadows' bits (shadows, d) and membership (shadows, records)."""
    varies = theirs.any(axis=0) & ~theirs.all(axis=0)
    target, theirs = target[varies], theirs[:, varies]
    common = theirs.mean(axis=0)
    excess = excess_share(theirs, inside, common)
    strength = prior_strength(excess, len(theirs) / 2)
    out = np.zeros(inside.shape[1])
    for part in chunks(inside.shape[1], theirs.shape[1]):
        rates = rates_of(theirs, inside[:, part])
        out[part] = log_ratio(target, *smoothed(rates, common, max(strength, 2 * HALF)))
    return out


def selected_scores(
    target: BoolArray,
    picking: BoolArray,
    picking_inside: BoolArray,
    rating: BoolArray,
    rating_inside: BoolArray,
    keep: int,
) -> NDArray[np.float64]:
    """(records,): `picking` shadows (shadows, d) choose each record's bits, `rating` ones give their rates."""
    together = np.concatenate([picking, rating])
    common = (together.sum(axis=0) + HALF) / (len(together) + 2 * HALF)
    own = picking.mean(axis=0)
    out = np.zeros(rating_inside.shape[1])
    for part in chunks(len(out), picking.shape[1]):
        chosen = best_bits(rates_of(picking, picking_inside[:, part]), own, keep)
        inside, outside = smoothed(rates_of(rating, rating_inside[:, part]), common, 2 * HALF)
        out[part] = log_ratio(
            target[chosen], np.take_along_axis(inside, chosen, 1), np.take_along_axis(outside, chosen, 1)
        )
    return out


def _bits(answer: Any) -> BoolArray:
    return np.asarray(answer) > HALF
