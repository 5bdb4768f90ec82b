"""Language models, causal and masked: public pretraining, private fine-tuning, plain or under DP; text interface."""

from __future__ import annotations

from .trainer import DpLanguage, Language

__all__ = ["DpLanguage", "Language"]
