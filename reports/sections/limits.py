"""What the audit does not say, in plain language."""

from __future__ import annotations

from ..blocks import Bullets, Section
from ..context import Context


def build(context: Context) -> Section:
    """The run's own limits first, then those of every audit."""
    limits = (*context.audit.limits, *context.texts.many("limits.always"))
    return Section("limits", context.texts("limits.title"), (Bullets(limits),))
