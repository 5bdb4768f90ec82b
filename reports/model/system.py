"""The software, machine, data and trainers behind the figures."""

# Pydantic copies defaults; ruff knows that only where BaseModel itself is the base.
# ruff: noqa: RUF012

from __future__ import annotations

from typing import Any

from .part import Count, Part, Probability


class Data(Part):
    """The data set audited on, without any of its content."""

    name: str
    fingerprint: str | None = None
    records: Count | None = None
    features: list[int] = []
    classes: Count | None = None
    label_noise: Probability = 0.0
    warnings: list[str] = []


class TrainerSystem(Part):
    """One trainer of the audit: `spec` is everything that shapes its weights, `models` how many were trained."""

    id: str
    name: str
    spec: dict[str, Any] = {}
    models: Count = 0


class System(Part):
    """The software, machine, data and trainers behind the figures."""

    leakgauge: str
    python: str | None = None
    platform: str | None = None
    torch: str | None = None
    opacus: str | None = None
    dp_accounting: str | None = None
    device: str | None = None
    data: Data | None = None
    trainers: list[TrainerSystem] = []
