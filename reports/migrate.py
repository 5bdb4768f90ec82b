"""Brings documents of older schema versions up to the current one, one step a version.

`STEPS` maps a version to a function that takes a document of that version (it may change it in place) and returns one
of the next. A step added here is all that a new schema version needs to keep old results readable.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from ..audit.errors import ConfigError, StaleArtifactError
from .model import VERSION

Document = dict[str, Any]
STEPS: dict[str, Callable[[Document], Document]] = {}
FAMILY = "leakgauge/audit/"


def migrate(document: Mapping[str, Any], steps: Mapping[str, Callable[[Document], Document]] = STEPS) -> Document:
    """A copy of `document` in the current schema version; it is not validated here.

    Raises `StaleArtifactError` when the document is no audit at all and `ConfigError` when its version is unknown.
    """
    current = document_version(document)
    if current == VERSION:
        return dict(document)
    migrated = copy.deepcopy(dict(document))
    seen = {current}
    while current != VERSION:
        if current not in steps:
            raise ConfigError(
                f"schema: unknown version {current!r}; this LeakGauge reads {VERSION!r}: upgrade LeakGauge, "
                "or run the audit again"
            )
        migrated = steps[current](migrated)
        current = document_version(migrated)
        if current in seen:
            raise StaleArtifactError(f"schema: the migration from {current!r} does not lead to {VERSION!r}")
        seen.add(current)
    return migrated


def document_version(document: Mapping[str, Any]) -> str:
    """The value of `schema`. Raises `StaleArtifactError` when `document` is not the result of an audit."""
    if not isinstance(document, Mapping):
        raise StaleArtifactError(f"$: expected a JSON object, got {type(document).__name__}; is this an audit.json?")
    version = document.get("schema")
    if not isinstance(version, str) or not version.startswith(FAMILY):
        raise StaleArtifactError(f"schema: expected {VERSION!r}, got {version!r}; is this an audit.json?")
    return version
