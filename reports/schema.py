"""Validates audit documents and generates the committed `audit.schema.json` from the same types.

`python -m leakgauge.reports.schema` writes the schema file again after a change of `model.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..audit.errors import ConfigError, StaleArtifactError
from .migrate import document_version, migrate
from .model import VERSION, Audit

SCHEMA_PATH = Path(__file__).with_name("audit.schema.json")
MAXIMUM_LISTED = 3


def validate_audit(document: Mapping[str, Any]) -> None:
    """Check a document of the current schema version.

    Raises `ConfigError` for an unknown version and `StaleArtifactError`, with JSON path and reason, for anything else
    that is wrong.
    """
    parse_audit(document)


def parse_audit(document: Mapping[str, Any]) -> Audit:
    """`document` as types; the errors are those of `validate_audit`."""
    version = document_version(document)
    if version != VERSION:
        raise ConfigError(f"schema: unknown version {version!r}; this LeakGauge reads {VERSION!r}")
    for path, value in _not_finite(document, ""):
        raise StaleArtifactError(f"{path}: {value!r} is not allowed; absent values are null")
    try:
        text = json.dumps(document, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StaleArtifactError(f"the audit document is not plain JSON: {error}") from error
    try:
        return Audit.model_validate_json(text)
    except ValidationError as error:
        raise StaleArtifactError(_explain(error)) from None


def read_audit(path: Path) -> dict[str, Any]:
    """The document at `path` in the current version, validated.

    Raises `ConfigError` (no file, a version from the future) and `StaleArtifactError` (corrupt, or no audit) with the
    file, the JSON path and the reason.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no audit document at {path}; name the folder that holds audit.json") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StaleArtifactError(f"{path} is corrupt: {error}; run the audit again") from None
    try:
        current = migrate(document)
        parse_audit(current)
    except (ConfigError, StaleArtifactError) as error:
        raise type(error)(f"{path}: {error}") from None
    return current


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the result document."""
    schema = Audit.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{VERSION.replace('/', ':')}",
        **schema,
    }


def schema_text() -> str:
    """`audit.schema.json` as committed."""
    return json.dumps(json_schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _explain(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False)
    lines = [f"{json_path(p['loc'])}: {p['msg'].removeprefix('Value error, ')}{_seen(p)}" for p in problems]
    more = len(lines) - MAXIMUM_LISTED
    return "; ".join(lines[:MAXIMUM_LISTED]) + (f"; and {more} more" if more > 0 else "")


def _seen(problem: Mapping[str, Any]) -> str:
    value = problem.get("input")
    if problem["type"] in {"missing", "value_error"} or isinstance(value, dict | list):
        return ""
    return f", got {str(value)[:60]!r}" if isinstance(value, str) else f", got {value}"


def json_path(location: tuple[int | str, ...]) -> str:
    """`("findings", 2, "bound")` to `findings[2].bound`; the document itself is `$`."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.lstrip(".") or "$"


def _not_finite(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path, value
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield from _not_finite(child, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):
            yield from _not_finite(child, f"{path}[{index}]")


if __name__ == "__main__":
    SCHEMA_PATH.write_text(schema_text(), encoding="utf-8")
