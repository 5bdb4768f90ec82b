"""Keeps what may be personal out of `audit.json`: it goes to `private.json` beside it, which stays with the run.

What is moved is the content of examples (`original`, `reconstruction`); evidence stays and is masked when it is drawn.
`report --reveal` puts both together again. The file also holds the salt of record ids: whoever has it can find a record
behind the hash that a report shows, and nobody else can, not even by trying all ids.
"""

from __future__ import annotations

import copy
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..audit.errors import StaleArtifactError

PRIVATE_NAME = "private.json"
CONTENT_KEYS = ("original", "reconstruction")
VERSION = "leakgauge/private/1"


def withhold(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A copy of `document` without the content of examples, which is written to `path`, readable by its owner only.

    The salt that an earlier run left there is kept, so that hashes stay comparable.
    """
    public = copy.deepcopy(dict(document))
    held = {
        str(index): [_take(example) for example in finding["examples"]]
        for index, finding in enumerate(public.get("findings", []))
        if finding.get("examples")
    }
    salt = read_salt(path) or secrets.token_hex(16)
    _write(path, {"schema": VERSION, "salt": salt, "examples": held})
    return public


def read_salt(path: Path) -> str | None:
    """The salt in `path`; None where there is none."""
    try:
        salt = json.loads(path.read_text(encoding="utf-8"))["salt"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return salt if isinstance(salt, str) and salt else None


def restore(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """`document` with the content of its examples as `withhold` wrote it; a copy as it is where `path` is no file.

    Raises `StaleArtifactError` where the file is corrupt or belongs to another document.
    """
    full = copy.deepcopy(dict(document))
    if not path.is_file():
        return full
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        for index, contents in stored["examples"].items():
            examples = full["findings"][int(index)]["examples"]
            for example, content in zip(examples, contents, strict=True):
                example.update(content)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise StaleArtifactError(f"{path}: does not belong to this audit.json ({error}); run the audit again") from None
    return full


def _take(example: dict[str, Any]) -> dict[str, Any]:
    return {key: example.pop(key) for key in CONTENT_KEYS if example.get(key) is not None}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.unlink(missing_ok=True)
    # Created with its final permissions: the content is never readable by others, not even for a moment.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, allow_nan=False)
    temporary.replace(path)
