"""The auditor audits itself: coverage and power of every bound on mechanisms of known epsilon."""

from __future__ import annotations

from .coverage import coverage_line
from .engine import run_selftest
from .report import FalseClaimCell, PowerCell, SelftestReport

__all__ = ["FalseClaimCell", "PowerCell", "SelftestReport", "coverage_line", "run_selftest"]
