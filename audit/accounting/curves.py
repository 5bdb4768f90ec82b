"""Privacy curves: epsilon as a function of delta, from privacy loss distributions (PLD) or in closed form.

Every number is an upper bound: the PLD is discretised pessimistically (connect-the-dots, Doroshenko et al. 2022,
arXiv 2207.04380), so a finer grid can only lower it, and the rounding of its FFT is charged to delta.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from scipy.stats import binom

from ..bounds.gaussian import gaussian_epsilon
from ..errors import ConfigError, IncompatibleError
from ..types import Adjacency, FloatArray


class PrivacyLoss(Protocol):
    """What we use of `dp_accounting`'s composed privacy loss distribution."""

    def get_epsilon_for_delta(self, delta: float) -> float:
        """The smallest epsilon at `delta`; infinite where the truncated tail exceeds `delta`."""

    def get_delta_for_epsilon(self, epsilon: FloatArray) -> Any:
        """Hockey-stick divergence at each of `epsilon`."""


ROUNDING_PER_STEP = 1e-16
"""What one composed step may add to the absolute rounding error of delta.

Measured against an exponentially tilted FFT, which keeps relative accuracy in the tail: at rate 0.01, noise 1 and
10,000 steps `dp_accounting` is 4e-13 too low in delta (38 % at delta 1e-12), where this allows 1e-12.
"""


class PrivacyCurve:
    """The curve delta -> epsilon of `steps` composed steps, on a loss grid of width `interval`."""

    def __init__(self, loss: PrivacyLoss, *, interval: float, steps: int) -> None:
        self._loss = loss
        self._slack = ROUNDING_PER_STEP * steps
        self.interval = interval

    def epsilons(self, deltas: Sequence[float]) -> list[float]:
        """Epsilon at each of `deltas`; `inf` where delta is too small for the PLD's tail and rounding.

        Delta is convex in exp(epsilon), so an epsilon read off a chord is never too low, and on 4000 chords it is
        too high by some 1e-6. One pass over the losses replaces one a delta.
        """
        known = ((d, self.epsilon(d)) for d in sorted(deltas))
        smallest, top = next(((d, e) for d, e in known if math.isfinite(e)), (math.inf, 0.0))
        grid = np.linspace(0.0, top + self.interval, 4000)
        with np.errstate(over="ignore", invalid="ignore"):
            curve = np.asarray(self._loss.get_delta_for_epsilon(grid))
        if not np.isfinite(curve).all():
            # Beyond epsilon 709 e^epsilon overflows on the grid; one delta at a time is slower and stays finite.
            return [math.inf if d < smallest else self.epsilon(d) for d in deltas]
        # Rounding in the FFT can break monotonicity near 1e-17; the running maximum from the right lowers no delta.
        curve = np.maximum.accumulate(curve[::-1])[::-1]
        return [math.inf if d < smallest else _invert(grid, curve, d - self._slack) for d in deltas]

    def epsilon(self, delta: float) -> float:
        """Epsilon at `delta`; `inf` where delta is below ten times the rounding error or the truncated tail mass."""
        if delta < 10 * self._slack * (1 - 1e-9):
            return math.inf
        return float(self._loss.get_epsilon_for_delta(delta - self._slack))


def _invert(epsilons: FloatArray, curve: FloatArray, delta: float) -> float:
    """The epsilon at which the non-increasing `curve` over `epsilons` reaches `delta`, along chords in exp(epsilon)."""
    right = min(int(np.searchsorted(-curve, -delta, side="left")), len(curve) - 1)
    if right == 0:
        return 0.0
    share = min(1.0, (curve[right - 1] - delta) / (curve[right - 1] - curve[right]))
    return float(epsilons[right - 1] + math.log1p(share * math.expm1(epsilons[right] - epsilons[right - 1])))


def check_parameters(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> None:
    """Refuse what no accountant can price: `ConfigError` for values out of range, `IncompatibleError` without noise."""
    if noise_multiplier == 0:
        raise IncompatibleError("noise_multiplier is 0: training without noise supports no privacy claim")
    if not (noise_multiplier > 0 and math.isfinite(noise_multiplier)):
        raise ConfigError(f"noise_multiplier must be a positive finite number, got {noise_multiplier}")
    if not 0 < sample_rate <= 1:
        raise ConfigError(f"sample_rate must lie in (0, 1], got {sample_rate}")
    if steps < 1 or steps != int(steps):
        raise ConfigError(f"steps must be a whole number of at least 1, got {steps}")
    if not 0 < delta < 1:
        raise ConfigError(f"delta must lie in (0, 1) for Gaussian noise, got {delta}")


@lru_cache(maxsize=8)
def dp_sgd_curve(
    *,
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    adjacency: Adjacency = Adjacency.ADD_REMOVE,
    coarseness: float = 1.0,
) -> PrivacyCurve:
    """The curve of `steps` Poisson-subsampled Gaussian steps: the worse of the add and the remove direction.

    `coarseness` multiplies the loss grid's width: 10 is ten times faster and still an upper bound, 1e-3 looser or less.
    """
    from dp_accounting.pld import privacy_loss_distribution as pld

    interval = coarseness * grid_width(noise_multiplier, sample_rate, steps, adjacency)
    relation = neighbouring_relation(adjacency)
    if sample_rate == 1:  # T full-batch steps are one Gaussian mechanism with noise sigma / sqrt(T).
        loss = pld.from_gaussian_mechanism(
            noise_multiplier / math.sqrt(steps), value_discretization_interval=interval, neighboring_relation=relation
        )
        return PrivacyCurve(loss, interval=interval, steps=0)  # Nothing is convolved, so nothing is rounded.
    step = pld.from_gaussian_mechanism(
        noise_multiplier,
        sampling_prob=sample_rate,
        value_discretization_interval=interval,
        neighboring_relation=relation,
    )
    return PrivacyCurve(step.self_compose(steps), interval=interval, steps=steps)


@lru_cache(maxsize=8)
def group_curve(*, noise_multiplier: float, sample_rate: float, steps: int, group: int) -> PrivacyCurve:
    """The add-remove curve for a group of `group` records, each drawn on its own with probability `sample_rate`.

    A step then is a Gaussian whose mean shift is Binomial(group, sample_rate): a mixture of Gaussians, whose PLD
    dominates the group's privacy loss for vector gradients too (Ganesh 2024, arXiv 2401.10294).
    """
    from dp_accounting.pld import privacy_loss_distribution as pld

    if sample_rate == 1:
        return dp_sgd_curve(noise_multiplier=noise_multiplier / group, sample_rate=1.0, steps=steps)
    # The mixture's PLD inverts a sum of `group` exponentials at each grid point, so its grid is a tenth as fine. The
    # group's tail is near `group` times that of one record; the largest shift itself almost never happens.
    tail = group * renyi_epsilons(noise_multiplier, sample_rate, steps, (1e-12,))[0]
    step_width = group**2 / (2 * noise_multiplier**2) + 9 * group / noise_multiplier
    interval = max(1e-3, tail / 2e4, step_width / 4e5)
    step = pld.from_mixture_gaussian_mechanism(
        noise_multiplier,
        sensitivities=list(range(group + 1)),
        sampling_probs=[float(p) for p in binom.pmf(np.arange(group + 1), group, sample_rate)],
        value_discretization_interval=interval,
    )
    return PrivacyCurve(step.self_compose(steps), interval=interval, steps=steps)


def grid_width(noise_multiplier: float, sample_rate: float, steps: int, adjacency: Adjacency) -> float:
    """The width of the PLD's loss grid: 1e-4 in ordinary cases, finer for tiny epsilons, coarser for huge ones.

    It keeps the grid's error near 1e-3 of epsilon and below, and the accountant's Python loops below some 100,000
    turns, so that an absurd noise multiplier costs seconds and not the machine's memory.
    """
    doubled = 2 if adjacency is Adjacency.REPLACE_ONE else 1
    step_width = doubled**2 / (2 * noise_multiplier**2) + 9 * doubled / noise_multiplier
    headline, tail = renyi_epsilons(noise_multiplier, sample_rate, steps, (1e-5, 1e-12))
    width = max(min(1e-4, headline / 1000), doubled * tail / 2e5, step_width / 2e5)
    if width > 100:
        raise ConfigError(
            f"noise_multiplier {noise_multiplier:g} gives an epsilon beyond 1e7: no claim worth accounting"
        )
    return width


def renyi_epsilons(noise_multiplier: float, sample_rate: float, steps: int, deltas: Sequence[float]) -> list[float]:
    """Add-remove epsilon at each of `deltas` by Renyi accounting over few, cheap orders: upper bounds to plan with.

    Where the orders run out (tiny noise) the full-batch closed form, which dominates, is returned. Looser than
    `opacus_files.rdp_epsilon`, which the accounts show.
    """
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    step = dp_accounting.PoissonSampledDpEvent(sample_rate, dp_accounting.GaussianDpEvent(noise_multiplier))
    accountant = RdpAccountant([1.25, 1.5, *range(2, 64), 128, 256, 512, 1024])
    with _quiet_absl():
        accountant.compose(step, steps)
        epsilons = [float(accountant.get_epsilon(delta)) for delta in deltas]
    full_batch = math.sqrt(steps) / noise_multiplier
    return [e if math.isfinite(e) else gaussian_epsilon(full_batch, d) for e, d in zip(epsilons, deltas, strict=True)]


def neighbouring_relation(adjacency: Adjacency) -> Any:
    """Our adjacency in `dp_accounting`'s vocabulary; zero-out is its `REPLACE_SPECIAL`."""
    from dp_accounting import NeighboringRelation

    return {
        Adjacency.ADD_REMOVE: NeighboringRelation.ADD_OR_REMOVE_ONE,
        Adjacency.REPLACE_ONE: NeighboringRelation.REPLACE_ONE,
        Adjacency.ZERO_OUT: NeighboringRelation.REPLACE_SPECIAL,
    }[adjacency]


@contextlib.contextmanager
def _quiet_absl() -> Iterator[None]:
    """Silence one line a skipped Renyi order: skipping an order is sound, and losing all is handled."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
