"""Causal language models: public pretraining, private fine-tuning, plain or under DP, and their text interface."""

from __future__ import annotations

from .trainer import DpLanguage, Language

__all__ = ["DpLanguage", "Language"]
