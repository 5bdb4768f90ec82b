"""Defences that change the training text and promise nothing: scrubbing, randomising, removing duplicates."""

from __future__ import annotations

from .apply import defend
from .spec import KINDS, Defences, Defended

__all__ = ["KINDS", "Defences", "Defended", "defend"]
