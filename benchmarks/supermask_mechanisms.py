"""Each private mask upload audited against its claim, many cheap times, beside twins that break it.

A game is one release: the attacker sees it and says whether the worst-case unit was in. `runs` games a side with a
threshold fixed beforehand give a Clopper-Pearson bound, which needs nothing of the mechanism. Everything released comes
from the functions that training itself uses. `leakgauge bench supermask-mechanisms`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..audit.bounds.clopper_pearson import ClopperPearson
from ..audit.bounds.counts import ConfusionCounts
from ..audit.bounds.gaussian import gaussian_epsilon
from ..audit.seeds import Seeds
from ..audit.types import Rows
from ..trainers.federated.protection import Protection as ClientProtection
from ..trainers.federated.sending import RoundSum
from ..trainers.federated.server import Aggregation, aggregate
from ..trainers.recipe import Protection
from ..trainers.supermask.private import DpSupermask, sum_of_clipped, with_noise
from ..trainers.supermask.response import composed_delta
from ..trainers.supermask.uploads import flips, sampled_bits

Floats = NDArray[np.float64]
DELTA, SIGMA, CLAMP, BITS, BUDGET, WIDTH = 1e-5, 1.25, 0.05, 16, 8, 512
RUNS, REPEATS = 1000, 100


@dataclass(frozen=True, slots=True)
class Variant:
    """One mechanism: `game(inside, runs, seeds)` gives scores (runs,), higher for inside; `epsilon` is its claim at
    `DELTA`; `threshold` was fixed beforehand. `broken` says what is wrong with a twin, empty for a correct one."""

    name: str
    epsilon: float
    threshold: float
    game: Callable[[bool, int, Seeds], Floats]
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """What `repeats` audits of a variant found: how many bounds at 0.999 and at 0.95 were above the claim, and the
    median bound at 0.95."""

    name: str
    broken: str
    claim: float
    repeats: int
    above_999: int
    above_95: int
    median_95: float

    @property
    def good(self) -> bool:
        """A correct variant is never above its claim at 0.999; a broken one always is."""
        return self.above_999 == (self.repeats if self.broken else 0)


def variants() -> list[Variant]:
    """All correct mechanisms and their broken twins."""
    gaussian, response = gaussian_epsilon(1 / SIGMA, DELTA), response_epsilon()
    half = 0.5 / SIGMA
    return [
        Variant("record scores (dp-sgd step)", gaussian, half, lambda i, n, s: _record(i, n, s, clip=True)),
        Variant("record scores (dp-sgd step)", gaussian, half, lambda i, n, s: _record(i, n, s, clip=False), "no clip"),
        Variant("client score deltas", gaussian, half, lambda i, n, s: _client(i, n, s, clip=True)),
        Variant("client score deltas", gaussian, half, lambda i, n, s: _client(i, n, s, clip=False), "no clip"),
        Variant("client flips", gaussian, half, lambda i, n, s: _flips(i, n, s, enforced=True)),
        Variant("client flips", gaussian, half, lambda i, n, s: _flips(i, n, s, enforced=False), "K not enforced"),
        Variant("clamped bits", response, BITS / 2, lambda i, n, s: _bits(i, n, s, "before")),
        Variant("clamped bits", response, BITS / 2, lambda i, n, s: _bits(i, n, s, "never"), "no clamp"),
        Variant(
            "clamped bits",
            response,
            BITS / 2,
            lambda i, n, s: _bits(i, n, s, "after"),
            "clamp on probabilities after sampling",
        ),
    ]


def response_epsilon() -> float:
    """Epsilon at `DELTA` of `BITS` bits clamped to `CLAMP`, by bisection of the exact composition."""
    low, high = 0.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if composed_delta(middle, CLAMP, BITS) > DELTA else (low, middle)
    return high


def audit(variant: Variant, *, repeats: int, runs: int, seeds: Seeds) -> Shown:
    """`repeats` independent audits of `runs` games a side."""
    bounds = np.zeros((repeats, 2))
    for k in range(repeats):
        here = seeds.at(variant.name, variant.broken, k)
        inside = int((variant.game(True, runs, here.at("inside")) > variant.threshold).sum())
        outside = int((variant.game(False, runs, here.at("outside")) > variant.threshold).sum())
        counts = ConfusionCounts(inside, outside, runs, runs)
        for place, confidence in enumerate((0.999, 0.95)):
            bounds[k, place] = ClopperPearson().certify(counts, delta=DELTA, confidence=confidence).epsilon
    above = (bounds > variant.epsilon).sum(0)
    median = float(np.median(bounds[:, 1]))
    return Shown(variant.name, variant.broken, variant.epsilon, repeats, int(above[0]), int(above[1]), median)


def _record(inside: bool, runs: int, seeds: Seeds, *, clip: bool) -> Floats:
    """One step on one hostile record, or none; the projection on its gradient, in clips, over the noise."""
    trainer = DpSupermask(hidden=(4,), rule="sign", noise_multiplier=SIGMA, nominal_rows=1, batch_size=1)
    row = np.full((1, 4), 100.0, np.float32)
    data = Rows(row, np.zeros(1, np.int64), ("r",), 2, "hostile")
    module = trainer.fresh_model(data, seeds=Seeds(3), device="cpu")
    features, labels = torch.from_numpy(row), torch.from_numpy(data.labels)
    gradient = sum_of_clipped(module, features, labels, 1.0)
    size = 1.0 if clip else 1e9
    total = sum_of_clipped(module, features[: int(inside)], labels[: int(inside)], size)
    private = Protection(SIGMA, 1.0)
    noise = seeds.torch_generator()
    direction = gradient / gradient.norm()
    released = with_noise(total.repeat(runs), private, noise).view(runs, -1)
    out: Floats = (released @ direction).numpy().astype(np.float64) / SIGMA
    return out


def _client(inside: bool, runs: int, seeds: Seeds, *, clip: bool) -> Floats:
    """A client whose scores moved far, or none; the projection on its change."""
    delta = np.zeros((1, WIDTH))
    delta[0, :] = 100.0 if inside else 0.0
    return _released(delta, 1.0, runs, seeds, clipped=clip)


def _flips(inside: bool, runs: int, seeds: Seeds, *, enforced: bool) -> Floats:
    """A client all of whose bits change, or none; with `enforced` it sends `BUDGET` of them."""
    before = np.full(WIDTH, -1.0)
    after = np.where(inside, 1.0, -1.0) * np.linspace(1.0, 1.1, WIDTH)
    sent = flips(before, after, BUDGET if enforced else WIDTH)[None]
    direction = flips(before, np.linspace(1.0, 1.1, WIDTH), BUDGET if enforced else WIDTH)
    return _released(sent, BUDGET**0.5, runs, seeds, clipped=enforced, direction=direction)


def _released(
    sent: Floats, clip: float, runs: int, seeds: Seeds, *, clipped: bool, direction: Floats | None = None
) -> Floats:
    """The noisy sum of what one client sent (1, width), `runs` times; projected on `direction`, over the noise."""
    protection = ClientProtection(clip, central=SIGMA)
    summing = RoundSum(0, WIDTH, protection if clipped else None, clip, seeds, 1)
    summing.add(["client"], sent)
    total, how = summing.total([]), Aggregation(1.0, clip, protection.update_noise)
    along = np.ones(WIDTH) if direction is None else direction
    along = along / np.linalg.norm(along)
    # As many releases in one call, each with noise of its own.
    released = aggregate(np.tile(total, runs), how, seeds=seeds).reshape(runs, WIDTH)
    return released @ along / (SIGMA * clip)


def _bits(inside: bool, runs: int, seeds: Seeds, clamped: str) -> Floats:
    """A client certain of every bit, one way or the other (replace-one); the number of ones."""
    theta = np.full(BITS, 1.0 if inside else 0.0)
    bits = sampled_bits(np.tile(theta, runs), CLAMP if clamped == "before" else None, seeds=seeds).reshape(runs, BITS)
    if clamped == "after":
        # What is clamped is the chance that the server reads off the bits; the bits are out already.
        bits = 0.5 + (np.clip(bits, 0.5 - CLAMP, 0.5 + CLAMP) - 0.5) / (2 * CLAMP)
    ones: Floats = bits.sum(1)
    return ones


def run(out: Path) -> int:
    """All variants, `REPEATS` audits each; prints a table and writes `supermask-mechanisms.md` and `.json` into `out`.

    Returns 0 if no correct mechanism certifies above its claim at 0.999 and every broken one does in every audit.
    """
    shown = [audit(v, repeats=REPEATS, runs=RUNS, seeds=Seeds(20261121)) for v in variants()]
    table = report(shown)
    print(table)
    out.mkdir(parents=True, exist_ok=True)
    (out / "supermask-mechanisms.md").write_text(table, encoding="utf-8")
    (out / "supermask-mechanisms.json").write_text(json.dumps([asdict(s) for s in shown], indent=1), encoding="utf-8")
    return 0 if all(s.good for s in shown) else 1


def report(shown: list[Shown]) -> str:
    """A table, one line a variant."""
    lines = [
        "| mechanism | broken | claim at 1e-5 | audits | above it at 0.999 | above it at 0.95 | median bound at 0.95 "
        "| as it must |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for s in shown:
        lines.append(
            f"| {s.name} | {s.broken or '-'} | {s.claim:.2f} | {s.repeats} | {s.above_999} | {s.above_95} | "
            f"{s.median_95:.2f} | {'yes' if s.good else 'NO'} |"
        )
    return "\n".join(lines) + "\n"
