"""`leakgauge bench peers`: other tools and ours on the same scores and the same signals."""

from __future__ import annotations

from .suite import run

__all__ = ["run"]
