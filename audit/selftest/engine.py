"""Runs the selftest."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Iterator

from ..errors import ConfigError
from ..seeds import Seeds
from ..types import Progress, silent
from .exact import exact_cells
from .power import power_cells
from .report import FalseClaimCell, PowerCell, SelftestReport
from .simulated import simulated_cells

REPORTED, JUDGED = 0.05, 0.001
"""The error probabilities at which bounds are reported and judged."""

LEAST_TRIALS = 200
THOROUGH_TRIALS = 100_000
MOST_POWER_TRIALS = 2000
"""A median needs no more, and 10000 canaries an audit fill the memory."""

_CELLS, _THOROUGH_CELLS = 136, 274


def run_selftest(*, trials: int, seeds: Seeds, thorough: bool = False, progress: Progress = silent) -> SelftestReport:
    """Measure every bound's false-claim rate and power.

    Count bounds are enumerated exactly at both levels; the others are simulated with `trials` audits a cell at 0.05
    and, if `thorough`, with at least 100000 at 0.001. Power is measured with 1000 canaries, or, if `thorough`, with
    100 to 10000, on at most 2000 audits a cell. `progress` is called after each cell. Raises `ConfigError` for fewer
    than 200 trials.
    """
    if trials < LEAST_TRIALS:
        raise ConfigError(f"selftest: trials must be at least {LEAST_TRIALS} to tell 5 % from more, got {trials}")
    start = time.perf_counter()
    false_claims: list[FalseClaimCell] = []
    power: list[PowerCell] = []
    planned = _THOROUGH_CELLS if thorough else _CELLS
    for claim in _claim_cells(trials, seeds, thorough):
        false_claims.append(claim)
        progress(len(false_claims), max(planned, len(false_claims)))
    canaries = (100, 1000, 5000, 10_000) if thorough else (1000,)
    for cell in power_cells(canaries, min(trials, MOST_POWER_TRIALS), seeds.at("power")):
        power.append(cell)
        progress(done := len(false_claims) + len(power), max(planned, done))
    return SelftestReport(
        trials=trials,
        thorough=thorough,
        seed=seeds.root,
        seconds=round(time.perf_counter() - start, 1),
        versions=versions(),
        false_claims=tuple(false_claims),
        power=tuple(power),
    )


def _claim_cells(trials: int, seeds: Seeds, thorough: bool) -> Iterator[FalseClaimCell]:
    for alpha in (REPORTED, JUDGED):
        yield from exact_cells(alpha)
    yield from simulated_cells(REPORTED, trials, seeds.at("reported"))
    if thorough:
        yield from simulated_cells(JUDGED, max(trials, THOROUGH_TRIALS), seeds.at("judged"))


def versions() -> dict[str, str]:
    """What the figures were computed with."""
    packages = ("leakgauge", "numpy", "scipy", "dp-accounting")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}
