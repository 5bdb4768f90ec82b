"""Whether a run still promises what the baseline promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..claims_json import claim_from_json
from ..errors import IncompatibleError
from ..types import Claim

TOLERANCE = 1e-3
"""Relative: accountants discretise, and two of their releases differ by about so much on the same mechanism."""


@dataclass(frozen=True, slots=True)
class ClaimChange:
    """One trainer's claim against its baseline, both at the baseline's `delta`; epsilon None without a claim."""

    trainer: str
    status: Literal["ok", "regressed", "improved", "incomparable", "new"]
    delta: float | None
    before: float | None
    after: float | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "trainer": self.trainer,
            "status": self.status,
            "delta": self.delta,
            "before": self.before,
            "after": self.after,
            "reason": self.reason,
        }


def compare_claims(before: Sequence[Mapping[str, Any]], after: Mapping[str, Claim]) -> list[ClaimChange]:
    """A larger epsilon at the same delta, unit and adjacency, or no claim where there was one, is a regression.

    Claims of other unit or adjacency, or without a known epsilon at the baseline's delta, are `incomparable`.
    """
    old = {row["trainer"]: claim_from_json(row) for row in before}
    changes = [_change(trainer, claim, after.get(trainer)) for trainer, claim in old.items()]
    for trainer, claim in after.items():
        if trainer not in old:
            changes.append(
                ClaimChange(trainer, "new", claim.delta, None, claim.epsilon, "the baseline has no such claim")
            )
    return changes


def _change(trainer: str, old: Claim, new: Claim | None) -> ClaimChange:
    if new is None:
        return ClaimChange(trainer, "regressed", old.delta, old.epsilon, None, "the claim is gone")
    for what in ("unit", "adjacency"):
        was, now = getattr(old, what), getattr(new, what)
        if was != now:
            text = f"{what} was {was} and is {now}: make a new baseline"
            return ClaimChange(trainer, "incomparable", old.delta, old.epsilon, None, text)
    try:
        epsilon = new.epsilon_at(old.delta)
    except IncompatibleError:
        text = f"the run claims nothing at delta {old.delta:g}: make a new baseline"
        return ClaimChange(trainer, "incomparable", old.delta, old.epsilon, None, text)
    if epsilon > old.epsilon * (1 + TOLERANCE):
        return ClaimChange(trainer, "regressed", old.delta, old.epsilon, epsilon, "the claim is weaker")
    if epsilon < old.epsilon * (1 - TOLERANCE):
        return ClaimChange(trainer, "improved", old.delta, old.epsilon, epsilon, "the claim is stronger")
    return ClaimChange(trainer, "ok", old.delta, old.epsilon, epsilon, "the same claim")
