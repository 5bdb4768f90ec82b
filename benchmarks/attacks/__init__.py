"""`leakgauge bench attacks`: every membership attack on five data sets and five ways of training."""

from __future__ import annotations

from .suite import run

__all__ = ["run"]
