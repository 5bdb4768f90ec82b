"""Whether the files of a run are those that were audited and attested: digests, attestation, signatures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..audit.errors import PrerequisiteError
from .attestation import (
    ATTESTATION_NAME,
    Attestation,
    Statement,
    attest,
    file_sha256,
    read_attestation,
    read_statement,
)
from .model import Audit
from .schema import parse_audit, read_audit
from .signing import fingerprint, load_private_key, public_key_of, sign_file, signature_holds


@dataclass(frozen=True, slots=True)
class Check:
    """One thing compared: `passed` is None where there is nothing to compare with."""

    what: str
    passed: bool | None
    detail: str

    @property
    def word(self) -> Literal["ok", "FAILED", "none"]:
        """The outcome in one word."""
        return {True: "ok", False: "FAILED", None: "none"}[self.passed]  # type: ignore[return-value]


def vouch(audit: Path, statement: Path | None, key: Path | None) -> list[Path]:
    """Write `attestation.json` beside `audit` and, with a private key, a signature of both; returns the files written.

    What the document itself says is validated first: nobody signs what cannot be read.
    """
    read_audit(audit)
    said = read_statement(statement) if statement else Statement()
    private = load_private_key(key) if key else None
    public = public_key_of(private) if private else None
    for name in (audit.name, ATTESTATION_NAME):
        audit.with_name(name + ".sig").unlink(missing_ok=True)
    attest(said, audit, public_key=public, fingerprint=fingerprint(public) if public else None)
    made = audit.with_name(ATTESTATION_NAME)
    return [made] if private is None else [made, *(sign_file(path, private) for path in (audit, made))]


def verify_run(audit: Path, public_key: str | None = None) -> list[Check]:
    """Every comparison that the folder of `audit` allows. `public_key` (base64) is one the reader trusts.

    Without it, signatures are checked against the key that the attestation names: that shows that nothing changed
    since, not who signed.
    """
    document = parse_audit(read_audit(audit))
    attestation = read_attestation(audit)
    checks = [Check("audit.json", True, f"valid, {document.version}")]
    checks += _artifacts(document, audit.parent)
    if attestation is None:
        missing = False if public_key else None
        return [*checks, Check("attestation", missing, "there is none"), Check("signature", missing, "there is none")]
    return [*checks, _attested(attestation, audit), *_signatures(attestation, audit, public_key)]


def _artifacts(document: Audit, folder: Path) -> Iterator[Check]:
    for artifact in document.artifacts:
        path = folder / artifact.path
        if not path.is_file():
            yield Check(artifact.path, None, "not in this folder")
        else:
            same = file_sha256(path) == artifact.sha256
            yield Check(artifact.path, same, "digest as recorded" if same else "changed since the audit")


def _attested(attestation: Attestation, audit: Path) -> Check:
    same = file_sha256(audit) == attestation.audit_sha256
    by = attestation.audited_by or "nobody named"
    detail = f"by {by} on {attestation.attested}" if same else "audit.json changed since it was attested"
    return Check("attestation", same, detail)


def _signatures(attestation: Attestation, audit: Path, trusted: str | None) -> Iterator[Check]:
    key = attestation.public_key
    if key is None:
        yield Check("signature", False if trusted else None, "the attestation is not signed")
        return
    if trusted is not None and trusted != key:
        yield Check("signing key", False, f"signed by {fingerprint(key)}, not by the key given")
        return
    for path in (audit, audit.with_name(ATTESTATION_NAME)):
        try:
            holds = signature_holds(path, key)
        except PrerequisiteError as error:
            yield Check(f"{path.name}.sig", None, str(error))
            continue
        whose = "the key given" if trusted else f"{fingerprint(key)}; compare it with the signer's"
        yield Check(f"{path.name}.sig", holds, f"signed by {whose}" if holds else "no valid signature")
