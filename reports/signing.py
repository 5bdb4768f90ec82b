"""Ed25519 signatures over `audit.json` and its attestation, by the library `cryptography` (RFC 8032).

A signature file holds 64 bytes in base64. `openssl pkeyutl -verify -rawin -pubin -inkey PUBLIC.pem -sigfile SIG -in
audit.json` says the same once the base64 is decoded.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..audit.errors import ConfigError, PrerequisiteError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SUFFIX = ".sig"


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """An unencrypted Ed25519 key in PEM (`openssl genpkey -algorithm ed25519 -out KEY.pem`).

    Raises `ConfigError` for any other file and `PrerequisiteError` without `cryptography`.
    """
    ed25519, serialization = _cryptography()
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise ConfigError(f"--sign: no file {path}") from None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"--sign {path}: no unencrypted private key in PEM ({error})") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ConfigError(f"--sign {path}: expected an Ed25519 key, got {type(key).__name__}")
    found: Ed25519PrivateKey = key
    return found


def load_public_key(path: Path) -> str:
    """The Ed25519 public key in the PEM file `path`, as base64 of its 32 bytes."""
    ed25519, serialization = _cryptography()
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"--key: no file {path}") from None
    except ValueError as error:
        raise ConfigError(f"--key {path}: no public key in PEM ({error})") from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ConfigError(f"--key {path}: expected an Ed25519 key, got {type(key).__name__}")
    return base64.b64encode(key.public_bytes_raw()).decode()


def public_key_of(key: Ed25519PrivateKey) -> str:
    """Base64 of the 32 bytes of the public key."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def fingerprint(public_key: str) -> str:
    """`SHA256:` and base64 of the digest of a public key (given in base64), to be compared by eye."""
    digest = hashlib.sha256(base64.b64decode(public_key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def sign_file(path: Path, key: Ed25519PrivateKey) -> Path:
    """Write `<path>.sig`."""
    out = path.with_name(path.name + SUFFIX)
    out.write_text(base64.b64encode(key.sign(path.read_bytes())).decode() + "\n", encoding="ascii")
    return out


def signature_holds(path: Path, public_key: str) -> bool:
    """Whether `<path>.sig` is a signature of the file's bytes under `public_key` (base64)."""
    from cryptography.exceptions import InvalidSignature

    try:
        signature = base64.b64decode(path.with_name(path.name + SUFFIX).read_text(encoding="ascii"), validate=False)
        _public(public_key).verify(signature, path.read_bytes())
    except (InvalidSignature, OSError, ValueError, binascii.Error):
        return False
    return True


def _public(public_key: str) -> Ed25519PublicKey:
    ed25519, _ = _cryptography()
    found: Ed25519PublicKey = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key))
    return found


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise PrerequisiteError("signatures need the package 'cryptography': pip install cryptography") from None
    return ed25519, serialization
