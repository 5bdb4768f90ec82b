"""What protects clients: clip, who adds which noise, and what of it protects from whom."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from ...audit.errors import ConfigError
from ...audit.registry import nearest
from .server import Law

View = Literal["updates", "sum", "global-models", "final-model"]
VIEWS: tuple[View, ...] = ("updates", "sum", "global-models", "final-model")
"""Observers, most informed first: a server that sees every update as it arrives, a server that sees their secure sum,
a client that sees every global model, an outsider with the last one."""


def check_view(view: str) -> None:
    """Raise `ConfigError` for a view that does not exist."""
    if view not in VIEWS:
        raise ConfigError(f"unknown view {view!r}{nearest(view, list(VIEWS))}")


@dataclass(frozen=True, slots=True)
class AdaptiveClip:
    """Follow the `quantile` of update norms (Andrew et al. 2021, arXiv 1905.03871, algorithm 1): each client also sends
    b = 1 if its norm is within the clip, and C *= exp(-learning_rate (mean of b - quantile)), so that the clip shrinks
    where more than the quantile lies within it. `count_noise` is the standard deviation of the noise on the sum of
    b - 1/2 over the cohort."""

    quantile: float = 0.5
    learning_rate: float = 0.2
    count_noise: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ConfigError(f"clip_quantile must lie in (0, 1), got {self.quantile}")
        if not self.learning_rate > 0:
            raise ConfigError(f"clip_learning_rate must be > 0, got {self.learning_rate}")
        if not self.count_noise >= 0:
            raise ConfigError(f"count_noise must be >= 0, got {self.count_noise}")

    def next_clip(self, clip: float, centred_sum: float, expected_cohort: float) -> float:
        """The clip of the next round from the noisy sum of b - 1/2 over this round's cohort."""
        within = centred_sum / expected_cohort + 0.5
        return clip * math.exp(-self.learning_rate * (within - self.quantile))

    def update_noise(self, noise_multiplier: float) -> float:
        """What is left for the updates, z_delta = (z^-2 - (2 sigma_b)^-2)^(-1/2): both releases together then cost what
        one with noise `noise_multiplier` costs (theorem 1 there)."""
        if not noise_multiplier:
            return 0.0
        left = noise_multiplier**-2 - (2 * self.count_noise) ** -2 if self.count_noise else -1.0
        if left <= 0:
            raise ConfigError(
                f"adaptive clipping: count_noise {self.count_noise:g} leaves nothing for the updates at noise "
                f"multiplier {noise_multiplier:g}: it must be above half of it, a twentieth of the cohort is usual"
            )
        return float(left**-0.5)


@dataclass(frozen=True, slots=True)
class Seen:
    """The protection from one observer: noise over the clip on what a client adds to what is seen. `known` means that
    the observer knows who takes part, so that sampling amplifies nothing."""

    noise_multiplier: float
    known: bool


@dataclass(frozen=True, slots=True)
class Protection:
    """Clipping of each client's whole update to `clip` and noise in units of it: `central`, which the server adds to
    the sum, and `client`, which each client adds to its own update. `discrete`: clients round to a grid of `bits` and
    add discrete Gaussian noise, as secure aggregation needs it.

    A round is released only if `least_cohort` clients answer, so that the sum always holds so many shares of `client`
    noise, and nothing is added to or taken from it otherwise.
    """

    clip: float
    law: Law = "gaussian"
    central: float = 0.0
    client: float = 0.0
    discrete: bool = False
    bits: int = 16
    least_cohort: int = 1
    adaptive: AdaptiveClip | None = None

    def __post_init__(self) -> None:
        if not (self.clip > 0 and math.isfinite(self.clip)):
            raise ConfigError(f"clip must be a positive number, got {self.clip}")
        if self.law not in ("gaussian", "laplace"):
            raise ConfigError(f"mechanism must be 'gaussian' or 'laplace', got {self.law!r}")
        if self.least_cohort < 1:
            raise ConfigError(f"least_cohort must be at least 1, got {self.least_cohort}")
        if self.discrete and self.law != "gaussian":
            raise ConfigError("distributed noise is discrete Gaussian: mechanism 'laplace' has no shares to add up")
        if self.adaptive is not None:
            if self.client or self.law != "gaussian":
                raise ConfigError("adaptive clipping is accounted for central Gaussian noise only: set a fixed clip")
            self.adaptive.update_noise(self.central)

    @property
    def update_noise(self) -> float:
        """Central noise on the sum of updates over the clip, after what the adaptive clip takes."""
        return self.central if self.adaptive is None else self.adaptive.update_noise(self.central)

    def against(self, view: View) -> Seen | None:
        """What protects from this observer; None where nothing does.

        Noise of a client who takes part is there or not with the client, so its law tells who took part: with client
        noise participation counts as known, and only the updates are protected.
        """
        if view == "updates":
            return Seen(self.client, known=True) if self.client else None
        shares = self._shares()
        if view == "sum":
            return Seen(shares, known=True) if shares else None
        if not shares:
            return Seen(self.central, known=False) if self.central else None
        # Two Laplace variables add up to something at least as private as the wider one, and no simple law.
        both = max(self.central, shares) if self.law == "laplace" else math.hypot(self.central, shares)
        return Seen(both, known=True)

    def for_cohorts(self, factor: float) -> Protection:
        """The same protection of sums with `factor` times the clients: more, smaller shares of client noise."""
        least = max(1, math.floor(self.least_cohort * factor))
        if not self.client or self.law == "laplace":
            return replace(self, least_cohort=least if self.client else self.least_cohort)
        return replace(self, least_cohort=least, client=self.client * math.sqrt(self.least_cohort / least))

    def _shares(self) -> float:
        """Client noise that every released sum holds."""
        return self.client if self.law == "laplace" else self.client * math.sqrt(self.least_cohort)
