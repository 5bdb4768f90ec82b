"""The parts of the report in reading order. A new part is a file with `build(context)` and a line here."""

from __future__ import annotations

from collections.abc import Callable

from ..blocks import Section
from ..context import Context
from . import (
    attestation,
    claim,
    control_map,
    controls,
    design,
    families,
    limits,
    meaning,
    provenance,
    reproduce,
    results,
    system,
    threat,
    tradeoff,
    utility,
    verdict,
)


def _one(build: Callable[[Context], Section]) -> Callable[[Context], tuple[Section, ...]]:
    return lambda context: (build(context),)


SECTIONS: tuple[Callable[[Context], tuple[Section, ...]], ...] = (
    _one(verdict.build),
    _one(meaning.build),
    _one(system.build),
    _one(claim.build),
    _one(threat.build),
    _one(design.build),
    _one(results.build),
    families.build_all,
    _one(utility.build),
    tradeoff.build_all,
    _one(controls.build),
    _one(limits.build),
    _one(reproduce.build),
    _one(control_map.build),
    _one(provenance.build),
    _one(attestation.build),
)
"""Each gives its sections; families gives as many as the audit has, tradeoff one where models can be compared."""
