"""Who vouches for an audit: names, references and dates given by people, tied to one `audit.json` by its digest."""

from __future__ import annotations

import datetime
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ..audit.errors import ConfigError, StaleArtifactError

ATTESTATION_NAME = "attestation.json"


class Statement(BaseModel):
    """What people say about an audit, one line each; the table of an `attestation.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=500)

    audited_by: str | None = None
    reviewed_by: str | None = None
    risk_reference: str | None = None
    sensitivity: str | None = None
    retention: str | None = None
    next_review: str | None = None
    statement: str | None = None


class Attestation(Statement):
    """A statement about the `audit.json` with digest `audit_sha256`; `fingerprint` is that of the key that signed."""

    version: Literal["leakgauge/attestation/1"] = "leakgauge/attestation/1"
    audit_sha256: str
    attested: str
    public_key: str | None = None
    fingerprint: str | None = None


def read_statement(path: Path) -> Statement:
    """A statement from TOML. Raises `ConfigError` naming the file and the key that is wrong."""
    try:
        return Statement.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"--attest: no file {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(Statement.model_fields)
        raise ConfigError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; keys are {known}") from None


def attest(statement: Statement, audit: Path, *, public_key: str | None, fingerprint: str | None) -> Attestation:
    """`statement` tied to the bytes of `audit` and to this moment; written beside it as `attestation.json`."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    made = Attestation(
        **statement.model_dump(),
        audit_sha256=file_sha256(audit),
        attested=now,
        public_key=public_key,
        fingerprint=fingerprint,
    )
    text = json.dumps(made.model_dump(), indent=1, ensure_ascii=False) + "\n"
    audit.with_name(ATTESTATION_NAME).write_text(text, encoding="utf-8", newline="\n")
    return made


def read_attestation(audit: Path) -> Attestation | None:
    """The attestation beside `audit`; None where there is none. `StaleArtifactError` where it is corrupt."""
    path = audit.with_name(ATTESTATION_NAME)
    if not path.is_file():
        return None
    try:
        return Attestation.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise StaleArtifactError(
            f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; attest the audit again"
        ) from None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
