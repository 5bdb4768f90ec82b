"""What trainers by DP-SGD promise: settings checked, the noise for an epsilon, the claim and its assumptions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..audit.accounting import calibrate_noise, dp_sgd_claim
from ..audit.errors import ConfigError
from ..audit.types import Adjacency, Claim, Unit

ASSUMES = (
    "each row joins each step independently with the stated sampling rate (Poisson sampling), and empty batches step",
    "sampling rate, number of steps, noise and the divisor of gradients follow from nominal_rows, which is public; "
    "none depends on the number of rows that were really used",
    "each example's gradient is clipped over all parameters together; each row is one record",
    "each example's gradient is finite: Opacus turns an infinite one into a NaN that shows in the model, and training "
    "that ends so is reported as failed",
    "only the released model and what follows from it are seen; stored training metrics are not part of the release",
    "model, hyperparameters, preprocessing and the choice of this run were made without the private rows",
    "noise is drawn by a seeded generator in floating point: whoever knows the seed can remove it, so a model that is "
    "to be released needs a secret seed",
)


def check_promise(trainer: Any, *, plain: str) -> None:
    """Refuse a private trainer's `epsilon`, `delta`, `noise_multiplier` and `max_grad_norm` where they make no sense;
    `plain` is the trainer to use without protection."""
    if (trainer.epsilon is None) == (trainer.noise_multiplier is None):
        raise ConfigError(
            f"{trainer.name} needs either epsilon or noise_multiplier, got epsilon {trainer.epsilon} and "
            f"noise_multiplier {trainer.noise_multiplier}"
        )
    for key in ("epsilon", "noise_multiplier", "max_grad_norm"):
        value = getattr(trainer, key)
        if value is not None and not value > 0:
            raise ConfigError(f"{key} must be > 0, got {value}; use trainer {plain!r} to train without protection")
    if not 0 < trainer.delta < 1:
        raise ConfigError(f"delta must lie in (0, 1), got {trainer.delta}")


# Accounting takes seconds, and a stack asks the same of it for every model.
@lru_cache(maxsize=64)
def calibrated_noise(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The least noise multiplier at which Poisson-sampled DP-SGD keeps (epsilon, delta), add-remove."""
    return calibrate_noise(
        epsilon=epsilon, delta=delta, sample_rate=sample_rate, steps=steps, adjacency=Adjacency.ADD_REMOVE
    )


@lru_cache(maxsize=64)
def sampled_claim(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> Claim:
    """What Poisson-sampled DP-SGD promises each record, add-remove, under `ASSUMES`."""
    return dp_sgd_claim(
        noise_multiplier=noise_multiplier,
        sample_rate=sample_rate,
        steps=steps,
        delta=delta,
        unit=Unit.RECORD,
        adjacency=Adjacency.ADD_REMOVE,
        assumes=ASSUMES,
    )
