"""The noise probe: is the noise of a step as large as accounted, everywhere, and fresh every time?"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from ..errors import ConfigError
from ..types import FloatArray, IntArray
from .record import CheckResult
from .sensitivity import Step

_BATCHES = (0, 1, 8)

ALPHA = 1e-4
"""Each noise check is wrong on a correct step with at most this probability."""


def probe_noise(
    step: Step, *, noise_multiplier: float, clip: float, dimension: int, divisor: float = 1.0, steps: int = 200
) -> list[CheckResult]:
    """`probe.noise-scale`, `probe.noise-fresh`, `probe.noise-shared` and `probe.noise-law` from `steps` noisy calls.

    The noise is the noisy update minus the noiseless one, on an empty, a single-unit and a full batch by turns (the
    empty one only if it does not raise): noise that depends on the batch fails on one of them. Expected standard
    deviation in every coordinate: noise_multiplier * clip / divisor; more passes. The tests are exact, or err on the
    safe side, for independent Gaussian noise.
    """
    if steps < 60 or noise_multiplier <= 0 or dimension < 1:
        raise ConfigError(
            f"the noise probe needs noise_multiplier > 0, dimension >= 1 and steps >= 60, "
            f"got {noise_multiplier}, {dimension}, {steps}"
        )
    expected = noise_multiplier * clip / divisor
    sizes = _BATCHES if _handles_empty(step, dimension) else _BATCHES[1:]
    batches = {size: np.full((size, dimension), clip / math.sqrt(dimension)) for size in sizes}
    still = {size: np.asarray(step(batch, noise=False), float) for size, batch in batches.items()}
    # In turn, so that neighbouring rows of `noise` come from different batches and neighbouring steps.
    turns = [sizes[i % len(sizes)] for i in range(steps)]
    noise = np.array([np.asarray(step(batches[size], noise=True), float) - still[size] for size in turns])
    return [
        _scale(noise, np.array(turns), expected),
        _fresh(noise, expected),
        _shared(noise, expected),
        _law(noise, expected),
    ]


def _handles_empty(step: Step, dimension: int) -> bool:
    """`probe.empty-batch` reports a step that does not; here it only means fewer batches to look at."""
    try:
        step(np.zeros((0, dimension)), noise=True)
    except Exception:
        return False
    return True


def _scale(noise: FloatArray, turns: IntArray, expected: float) -> CheckResult:
    """Chi-square tests of too little variance: for each coordinate over all steps, and for each batch size."""
    steps, dimension = noise.shape
    columns = (noise**2).sum(axis=0) / expected**2
    sizes = np.unique(turns)
    groups = [noise[turns == size] for size in sizes]
    sums = np.array([float((g**2).sum()) / expected**2 for g in groups])
    degrees = np.array([g.size for g in groups])
    tests = dimension + len(groups)
    p_values = np.concatenate([stats.chi2.cdf(columns, steps), stats.chi2.cdf(sums, degrees)])
    worst = int(np.argmin(p_values))
    square = columns[worst] / steps if worst < dimension else sums[worst - dimension] / degrees[worst - dimension]
    where = f"coordinate {worst}" if worst < dimension else f"batches of {sizes[worst - dimension]} units"
    measured = expected * math.sqrt(square)
    passed = bool(p_values[worst] >= ALPHA / tests)
    detail = f"least noise: standard deviation {measured:.4g} ({where}), expected {expected:.4g}"
    return CheckResult("probe.noise-scale", passed, detail, measured, expected)


def _fresh(noise: FloatArray, expected: float) -> CheckResult:
    """No row of noise comes twice, and none is correlated with those 1 to 10 steps later.

    Rows a lag apart are paired without overlap, so that the cosine is that of independent vectors: an exact test.
    """
    rule = "probe.noise-fresh"
    steps, dimension = noise.shape
    if not noise.any():
        return CheckResult(rule, False, "there is no noise")
    repeats = steps - len(np.unique(np.round(noise / expected, 9), axis=0))
    # Single-precision noise in one dimension may repeat once by chance (probability 1e-3 in 200 steps).
    if repeats > (1 if dimension == 1 else 0):
        return CheckResult(rule, False, f"{repeats} of {steps} steps had the noise of another step")
    lags = range(1, min(10, steps // 6) + 1)
    tests = []
    for lag in lags:
        start = np.flatnonzero((np.arange(steps) // lag) % 2 == 0)
        start = start[start + lag < steps]
        tests.append(_cosine_p_value(noise[start].ravel(), noise[start + lag].ravel()))
    cosine, p_value = min(tests, key=lambda test: test[1])
    passed = p_value >= ALPHA / len(tests)
    return CheckResult(rule, passed, f"largest correlation between steps: {cosine:.3f}", cosine, 0.0)


def _cosine_p_value(first: FloatArray, second: FloatArray) -> tuple[float, float]:
    """The cosine of two vectors, and its two-sided p value for independent Gaussian ones (a t statistic)."""
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    cosine = float(first @ second) / lengths if lengths > 0 else 0.0
    freedom = len(first) - 1
    t = abs(cosine) * math.sqrt(freedom / max(1 - cosine**2, 1e-15))
    return cosine, float(2 * stats.t.sf(t, freedom))


def _shared(noise: FloatArray, expected: float) -> CheckResult:
    """Correlation between coordinates: one draw reused for several parameters is one dimension of noise, not many."""
    rule = "probe.noise-shared"
    steps, dimension = noise.shape
    if dimension == 1:
        return CheckResult(rule, None, "one coordinate: nothing to share")
    chosen = np.unique(np.round(np.linspace(0, dimension - 1, min(dimension, 200))).astype(int))
    columns = noise[:, chosen]
    lengths = np.linalg.norm(columns, axis=0)
    cosine = (columns.T @ columns) / np.maximum(np.outer(lengths, lengths), 1e-300 + 1e-12 * expected**2)
    upper = np.triu_indices(len(chosen), 1)
    largest = float(np.abs(cosine[upper]).max())
    t = largest * math.sqrt((steps - 1) / max(1 - largest**2, 1e-15))
    passed = bool(2 * stats.t.sf(t, steps - 1) * len(upper[0]) >= ALPHA)
    return CheckResult(rule, passed, f"largest correlation between coordinates: {largest:.3f}", largest, 0.0)


def _law(noise: FloatArray, expected: float) -> CheckResult:
    """Kolmogorov-Smirnov distance from the Gaussian law, each coordinate brought to unit variance.

    The estimated variance makes the test more lenient than `ALPHA`, never stricter.
    """
    rule = "probe.noise-law"
    spread = np.sqrt((noise**2).mean(axis=0))
    noisy = spread > 1e-9 * expected
    if not noisy.any():
        return CheckResult(rule, False, "there is no noise")
    result = stats.kstest((noise[:, noisy] / spread[noisy]).ravel()[:20_000], "norm")
    distance = float(result.statistic)
    return CheckResult(rule, bool(result.pvalue >= ALPHA), f"distance from a Gaussian: {distance:.3f}", distance, 0.0)
