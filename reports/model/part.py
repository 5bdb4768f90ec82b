"""What every object of the result document is made of: strict keys, ranges, and the words for verdicts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION: Literal["leakgauge/audit/1"] = "leakgauge/audit/1"

Verdict = Literal["violated", "exceeds-policy", "error", "underpowered", "no-claim", "consistent"]
VERDICTS: tuple[Verdict, ...] = ("violated", "exceeds-policy", "error", "underpowered", "no-claim", "consistent")
"""Worst first, as in `audit.types.Verdict` (a test compares the two)."""

Probability = Annotated[float, Field(ge=0, le=1)]
Epsilon = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Size = Annotated[float, Field(ge=0)]
Label = Annotated[str, Field(max_length=200)]


class Part(BaseModel):
    """A JSON object with exactly the keys named."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
