"""What one call, ours or a peer's, answered on one fixture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """`values`, one claimed epsilon a trial, `seconds` a call; or what went wrong in `error`, and no values."""

    call: str
    fixture: str
    values: tuple[float, ...]
    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class AttackOutcome:
    """Scores of one attack on one target (records,), higher for more likely inside; `seconds` to score them.

    `judged` are the positions of the records that the scores belong to: an attack that had to be shown the membership
    of some records is judged on the others.
    """

    attack: str
    target: int
    scores: tuple[float, ...]
    judged: tuple[int, ...]
    seconds: float
    error: str = ""
