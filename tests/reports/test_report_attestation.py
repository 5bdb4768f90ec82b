"""Attesting, signing and verifying a run, and noticing every change made afterwards."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from leakgauge.audit.errors import ConfigError, StaleArtifactError
from leakgauge.audit.report_command import ReportRequest, report_runs, verify_lines
from leakgauge.reports.signing import fingerprint, load_public_key

ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
from cryptography.hazmat.primitives import serialization as forms  # noqa: E402

STATEMENT = """
audited_by = "Ada Example, data protection officer"
risk_reference = "DPIA-2026-14"
sensitivity = "internal"
retention = "until 2031-11-21"
"""


def make_key(folder: Path, name: str = "key") -> tuple[Path, Path]:
    key = ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def signed(builder: Any, tmp_path: Path) -> tuple[Path, Path]:
    """A run attested and signed, and the public key."""
    run = tmp_path / "run"
    run.mkdir()
    builder.write(run, plain=True)
    (tmp_path / "who.toml").write_text(STATEMENT)
    private, public = make_key(tmp_path)
    report_runs(ReportRequest([run], ("md",), statement=tmp_path / "who.toml", key=private))
    return run, public


def outcome(run: Path, key: Path | None = None) -> tuple[str, bool]:
    lines, good = verify_lines(run, key)
    return "\n".join(lines), good


def test_a_signed_run_verifies_and_the_report_says_who(signed: tuple[Path, Path]) -> None:
    run, public = signed
    text, good = outcome(run, public)
    assert good
    assert text.count("signed by the key given") == 2
    report = (run / "report.md").read_text()
    assert "Ada Example, data protection officer" in report
    assert "until 2031-11-21" in report
    assert fingerprint(load_public_key(public)) in report
    assert "\\_\\_\\_" not in report


def test_openssl_agrees(signed: tuple[Path, Path], tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine")
    run, public = signed
    raw = tmp_path / "raw.sig"
    raw.write_bytes(base64.b64decode((run / "audit.json.sig").read_text()))
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(public), "-sigfile", str(raw)]
    done = subprocess.run([*command, "-in", str(run / "audit.json")], capture_output=True, text=True, check=False)
    assert "Signature Verified Successfully" in done.stdout


@pytest.mark.parametrize("name", ["audit.json", "attestation.json", "audit.json.sig", "attestation.json.sig"])
def test_any_change_is_noticed(signed: tuple[Path, Path], name: str) -> None:
    run, public = signed
    path = run / name
    text = path.read_text()
    if name.endswith(".sig"):
        first = "A" if text[0] != "A" else "B"
        path.write_text(first + text[1:])
    else:
        path.write_text(text + "\n")
    assert not outcome(run, public)[1]
    assert not outcome(run)[1]


def test_another_signer_is_noticed_only_with_the_right_key(signed: tuple[Path, Path], tmp_path: Path) -> None:
    run, public = signed
    forger, _ = make_key(tmp_path, "forger")
    report_runs(ReportRequest([run], ("md",), key=forger))
    assert outcome(run)[1]
    text, good = outcome(run, public)
    assert not good
    assert "not by the key given" in text


def test_signing_again_without_a_key_removes_the_old_signatures(signed: tuple[Path, Path], tmp_path: Path) -> None:
    run, public = signed
    report_runs(ReportRequest([run], ("md",), statement=tmp_path / "who.toml"))
    assert not list(run.glob("*.sig"))
    assert outcome(run)[1]
    assert not outcome(run, public)[1]


def test_changed_artifacts_are_noticed(builder: Any, tmp_path: Path) -> None:
    run = builder.write(tmp_path, plain=True).parent
    text, good = outcome(run)
    assert good
    assert "bounds.json: not in this folder" in text
    (run / "bounds.json").write_text("other")
    text, good = outcome(run)
    assert not good
    assert "bounds.json: changed since the audit" in text


def test_mistakes_are_named(builder: Any, tmp_path: Path) -> None:
    run = builder.write(tmp_path, plain=True).parent
    (tmp_path / "who.toml").write_text("auditor = 'x'")
    with pytest.raises(ConfigError, match=r"who\.toml: auditor.*audited_by"):
        report_runs(ReportRequest([run], ("md",), statement=tmp_path / "who.toml"))
    (tmp_path / "bad.pem").write_text("no key")
    with pytest.raises(ConfigError, match=r"bad\.pem"):
        report_runs(ReportRequest([run], ("md",), key=tmp_path / "bad.pem"))
    with pytest.raises(ConfigError, match="no file"):
        report_runs(ReportRequest([run], ("md",), key=tmp_path / "absent.pem"))
    (tmp_path / "attestation.json").write_text(json.dumps({"audited_by": "x"}))
    with pytest.raises(StaleArtifactError, match=r"attestation\.json"):
        report_runs(ReportRequest([run], ("md",)))
