"""The parts of the report in reading order. A new part is a file with `build(context)` and a line here."""

from __future__ import annotations

from collections.abc import Callable

from ..blocks import Section
from ..context import Context
from . import (
    claim,
    control_map,
    controls,
    design,
    limits,
    meaning,
    provenance,
    reproduce,
    results,
    system,
    threat,
    utility,
    verdict,
)

SECTIONS: tuple[Callable[[Context], Section | None], ...] = (
    verdict.build,
    meaning.build,
    system.build,
    claim.build,
    threat.build,
    design.build,
    results.build,
    utility.build,
    controls.build,
    limits.build,
    reproduce.build,
    control_map.build,
    provenance.build,
)
