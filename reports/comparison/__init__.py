"""Several runs on one page: side by side, on the privacy-utility frontier, and over time. Imports no torch."""

from __future__ import annotations

from .page import build_comparison
from .write import render_comparison

__all__ = ["build_comparison", "render_comparison"]
