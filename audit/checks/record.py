"""What a DP training run says about itself, as far as a claim rests on it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from ..types import Adjacency, Claim


class Sampler(enum.StrEnum):
    """How batches were drawn. `NONE` is for accountants only: no amplification by sampling was claimed."""

    POISSON = "poisson"
    FULL_BATCH = "full-batch"
    SHUFFLE = "shuffle"
    FIXED_SIZE = "fixed-size"
    WEIGHTED = "weighted"
    NONE = "none"


class Divisor(enum.StrEnum):
    """What the noisy sum is divided by. Only a `PUBLIC` number keeps the sensitivity of the accountant."""

    PUBLIC = "public"
    REALISED_BATCH = "realised-batch"
    PRIVATE_ROWS = "private-rows"


class Clipping(enum.StrEnum):
    """What is clipped. A claim for one record (or client) needs `UNIT`: each unit's own contribution."""

    UNIT = "unit"
    BATCH = "batch"
    MEAN = "mean"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ParameterRecord:
    """One parameter tensor, or group of them, that training changed."""

    name: str
    noise_multiplier: float
    clipped: bool = True


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """The facts of one run that a claim depends on; None means not recorded, which no check takes for right.

    "Accounted" is what the accountant was told, "real" what happened. `noise_seeds` are the seeds or stream ids of
    the noise generator, one a step. `fitted_on_private` names preprocessing (scaler, vocabulary, deduplication)
    fitted on private rows outside the mechanism, `selected_on_private` choices made by looking at private scores
    (early stopping, hyperparameters). `units_per_record` counts training examples made of one unit (augmentations,
    duplicates), `group_accounted` the group size of the claim. `sampling_streams` is the number of different sampling
    generators over `ranks` workers. `weights_bounded`: no unit's weight in the mean exceeds what the sensitivity
    assumes. `clip_budgeted`: a clipping norm adapted to private data was paid for. `modules` are layer class names.
    """

    claim: Claim
    accountant: str | None = None
    accountant_adjacency: Adjacency | None = None
    sampler_accounted: Sampler | None = None
    sampler_real: Sampler | None = None
    sample_rate_accounted: float | None = None
    sample_rate_real: float | None = None
    steps_accounted: int | None = None
    steps_real: int | None = None
    steps_with_noise: int | None = None
    noise_multiplier_accounted: float | None = None
    parameters: tuple[ParameterRecord, ...] | None = None
    clipping: Clipping | None = None
    clip_adaptive: bool | None = None
    clip_budgeted: bool = False
    divisor: Divisor | None = None
    weights_bounded: bool | None = None
    noise_seeds: tuple[int | str, ...] | None = None
    noise_seed_public: bool | None = None
    ranks: int = 1
    sampling_streams: int | None = None
    units_per_record: int | None = None
    group_accounted: int = 1
    modules: tuple[str, ...] | None = None
    fitted_on_private: tuple[str, ...] | None = None
    selected_on_private: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check's outcome. `passed` is None where the record or the step does not say enough to decide.

    `measured` and `expected` are the numbers compared, where numbers were; a failing check is a `violated` finding
    with no bound.
    """

    rule: str
    passed: bool | None
    detail: str
    measured: float | None = None
    expected: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for a finding's evidence."""
        return {
            "rule": self.rule,
            "passed": self.passed,
            "detail": self.detail,
            "measured": self.measured,
            "expected": self.expected,
        }
