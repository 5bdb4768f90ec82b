"""What leakage means: vocabulary, statistics, and the conductor. Importing it needs numpy and scipy only."""

from __future__ import annotations

from typing import Any

__all__ = ["audit_scores"]


def __getattr__(name: str) -> Any:
    # On use, so that `import leakgauge.audit.cli` stays as light as the command line must be.
    if name == "audit_scores":
        from .scores import audit_scores

        return audit_scores
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
