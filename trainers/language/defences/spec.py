"""What is done to the training text, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ....audit.errors import ConfigError
from ....audit.registry import nearest
from ....audit.types import BoolArray

KINDS = ("email", "card", "id", "ip", "phone", "number", "name")
"""Kinds of values, most certain first: where two overlap, the earlier one holds."""


@dataclass(frozen=True, slots=True)
class Defences:
    """What is done to each row of private text, in this order: duplicates dropped, values scrubbed, values randomised.

    `scrub`: kinds of values (`KINDS`) that are replaced by a tag such as `<email>`, or deleted. `library` finds them:
    our own patterns, or presidio's recognisers (extra `scrub`). `randomise`: the share of the remaining values, names
    apart, whose digits and letters are drawn anew. Scrubbing and randomising look at one row at a time, so that a
    record-level claim survives them; `deduplicate` compares rows and voids it.
    """

    scrub: tuple[str, ...] = ()
    replacement: Literal["tag", "delete"] = "tag"
    library: Literal["patterns", "presidio"] = "patterns"
    randomise: float = 0.0
    deduplicate: bool = False

    def __post_init__(self) -> None:
        for kind in self.scrub:
            if kind not in KINDS:
                raise ConfigError(f"scrub: unknown kind {kind!r}{nearest(kind, list(KINDS))}")
        for key, value, known in (
            ("scrub_replacement", self.replacement, ("tag", "delete")),
            ("scrub_library", self.library, ("patterns", "presidio")),
        ):
            if value not in known:
                raise ConfigError(f"{key} must be one of {', '.join(known)}, got {value!r}")
        if not 0 <= self.randomise <= 1:
            raise ConfigError(f"randomise is a share and must lie in [0, 1], got {self.randomise}")


@dataclass(frozen=True, slots=True)
class Defended:
    """Byte rows int64 (records, bytes) in the order given, which of them are trained on bool (records,), and counts:
    values scrubbed and randomised by kind, rows changed, rows dropped as exact or near duplicates."""

    features: NDArray[np.int64]
    inside: BoolArray
    metrics: Mapping[str, float] = field(default_factory=dict)
