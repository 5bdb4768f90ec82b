"""Probes of a federated aggregation: what it does with updates that real clients send by accident or by intent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..types import FloatArray
from .record import CheckResult

AGGREGATION_RULES = {
    "aggregate.zero-update": "A client that learned nothing is aggregated like any other.",
    "aggregate.non-finite": "A NaN or infinite update of one client neither spreads nor stops the round.",
    "aggregate.huge-update": "An update of norm 1e30 moves the global model no further than the clip allows.",
    "aggregate.weight-zero": "A client without examples is aggregated like any other.",
    "aggregate.integer-buffer": "An integer counter in the model comes back as an integer, without noise.",
    "aggregate.noise-source": "The noise does not come from a process-wide generator that anybody may have seeded.",
    "aggregate.adaptive-clip": "An adaptive clip grows while all updates are longer than it.",
}
"""Rules of the aggregation probes."""

Aggregate = Callable[[Sequence[FloatArray], Sequence[float]], FloatArray]
ClipAfterRound = Callable[[Sequence[FloatArray]], float]
"""Client updates to the clip that the next round will use."""


def probe_aggregation(aggregate: Aggregate, *, clip: float, clients: int, dimension: int) -> list[CheckResult]:
    """Crafted updates through `aggregate`, one bad client among `clients`: five results, in the rules' order.

    An exception counts as a failure: it stops the round for everybody and says what one client sent. The noise may
    stay on; a bad update is contained if the output stays within 100 times what the noise and the clip explain.
    """
    if clients < 2 or dimension < 1 or not clip > 0:
        raise ConfigError(
            f"the probe needs clients >= 2, dimension >= 1 and clip > 0, got {clients}, {dimension}, {clip}"
        )
    cohort = [np.full(dimension, 0.5 * clip / dimension**0.5) for _ in range(clients - 1)]
    usual = 100 * max(_largest(aggregate, [*cohort, cohort[0].copy()], clients) for _ in range(20)) + 2 * clip

    def with_last(rule: str, updates: Sequence[FloatArray], weight: float = 10.0) -> CheckResult:
        return _contained(rule, aggregate, cohort, updates, weight, usual)

    def spiked(value: float) -> FloatArray:
        update = np.zeros(dimension)
        update[0] = value
        return update

    return [
        with_last("aggregate.zero-update", [np.zeros(dimension)]),
        with_last("aggregate.non-finite", [spiked(v) for v in (np.nan, np.inf, -np.inf)]),
        with_last("aggregate.huge-update", [spiked(1e30)]),
        with_last("aggregate.weight-zero", [cohort[0]], weight=0.0),
        probe_noise_source(lambda: aggregate([u.copy() for u in cohort], [10.0] * len(cohort))),
    ]


def probe_noise_source(draw: Callable[[], Any]) -> CheckResult:
    """Whether `draw()`, which adds noise, advances numpy's or torch's process-wide generator.

    Such noise is predictable to anybody who knows the seed that some line of the program set for reproducibility, and
    all processes forked from one parent share it.
    """
    rule = "aggregate.noise-source"
    before = _global_states()
    try:
        draw()
    except Exception as error:
        return CheckResult(rule, None, f"the aggregation raised {type(error).__name__}: {error}")
    moved = [name for name, state in _global_states().items() if name in before and before[name] != state]
    if moved:
        return CheckResult(rule, False, f"the noise comes from the process-wide generator of {' and '.join(moved)}")
    return CheckResult(rule, True, "no process-wide generator was used")


def probe_adaptive_clip(
    clip_after: ClipAfterRound, *, start: float, clients: int, dimension: int, rounds: int = 10
) -> CheckResult:
    """Whether the clip moves towards the updates' norm: `rounds` rounds in which all have 100 times the `start` clip.

    Andrew et al. (2021, arXiv 1905.03871): C <- C exp(-eta (b - gamma)), b the fraction of updates NOT above C, so the
    clip grows while all are above. A sign error makes it shrink for ever and with it what is learned.
    """
    along = np.eye(1, dimension)[0]
    series = [start]
    for _ in range(rounds):
        series.append(float(clip_after([100 * start * along for _ in range(clients)])))
    text = ", ".join(f"{c:.4g}" for c in [*series[:4], series[-1]])
    passed = series[-1] > start
    detail = f"all updates have norm {100 * start:g}; the clip went {text} in {rounds} rounds"
    return CheckResult("aggregate.adaptive-clip", passed, detail, series[-1], start)


def _contained(
    rule: str,
    aggregate: Aggregate,
    cohort: Sequence[FloatArray],
    updates: Sequence[FloatArray],
    weight: float,
    usual: float,
) -> CheckResult:
    for update in updates:
        sent = [*(u.copy() for u in cohort), update.copy()]
        what = f"an update with {update[0]:g}" if rule != "aggregate.weight-zero" else "a client with weight 0"
        try:
            with np.errstate(all="ignore"):
                out = np.asarray(aggregate(sent, [*[10.0] * len(cohort), weight]), np.float64)
        except Exception as error:
            return CheckResult(rule, False, f"{what} raises {type(error).__name__}: {error}"[:200])
        if not np.isfinite(out).all():
            bad = int((~np.isfinite(out)).sum())
            return CheckResult(rule, False, f"{what} makes {bad} of {out.size} released coordinates NaN or infinite")
        largest = float(np.abs(out).max())
        if largest > usual:
            return CheckResult(rule, False, f"{what} moves the output to {largest:.3g}", largest, usual)
    return CheckResult(rule, True, "contained")


def _largest(aggregate: Aggregate, cohort: Sequence[FloatArray], clients: int) -> float:
    out = np.asarray(aggregate([u.copy() for u in cohort], [10.0] * clients), np.float64)
    return float(np.abs(out).max())


def _global_states() -> dict[str, bytes]:
    """The states of process-wide generators, as bytes; torch's only where somebody has imported it."""
    legacy: Any = np.random.get_state(legacy=False)  # noqa: NPY002 - read, to see whether others draw from it
    states = {
        "numpy": legacy["state"]["key"].tobytes()
        + repr(legacy["state"]["pos"]).encode()
        + repr(legacy["gauss"]).encode()
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        states["torch"] = torch.get_rng_state().numpy().tobytes()
    return states
