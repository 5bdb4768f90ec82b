"""Checks that need no attack: what a training run did against what its accountant assumed, and probes of one step."""

from __future__ import annotations

from .noise import probe_noise
from .record import CheckResult, Clipping, Divisor, ParameterRecord, Sampler, TrainingRecord
from .sensitivity import Step, probe_sensitivity
from .static import STATIC_RULES, failures, run_static_checks

__all__ = [
    "STATIC_RULES",
    "CheckResult",
    "Clipping",
    "Divisor",
    "ParameterRecord",
    "Sampler",
    "Step",
    "TrainingRecord",
    "failures",
    "probe_noise",
    "probe_sensitivity",
    "run_static_checks",
]
