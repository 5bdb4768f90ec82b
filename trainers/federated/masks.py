"""Key agreement and mask expansion for secure aggregation: X25519, HKDF-SHA256, AES-256 in counter mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import PrerequisiteError
from ...audit.seeds import Seeds

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

_REMEDY = "secure aggregation needs the package 'cryptography': pip install 'leakgauge[federated]'"


def secret_bytes(seeds: Seeds) -> bytes:
    """32 secret bytes of this stream: a simulation's, predictable from the audit's seed and not for production."""
    return _expand(seeds.entropy().to_bytes(16, "big"), b"leakgauge simulated secret")


def public_key(secret: bytes) -> bytes:
    """The X25519 public key of 32 secret bytes."""
    return _private_key(secret).public_key().public_bytes_raw()


def agree(secret: bytes, other_public: bytes) -> bytes:
    """The 32-byte mask key that two clients share: HKDF of the X25519 agreement (RFC 7748, RFC 5869)."""
    try:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    except ModuleNotFoundError as error:
        raise PrerequisiteError(_REMEDY) from error
    shared = _private_key(secret).exchange(X25519PublicKey.from_public_bytes(other_public))
    return _expand(shared, b"leakgauge pairwise mask")


def mask(key: bytes, dimension: int) -> NDArray[np.uint32]:
    """`dimension` pseudo-random words (dimension,) from a key that is used once: the AES-256-CTR key stream."""
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ModuleNotFoundError as error:
        raise PrerequisiteError(_REMEDY) from error
    # A zero nonce is sound because every key is derived for one round and one purpose.
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(4 * dimension))
    return np.frombuffer(stream, dtype="<u4").astype(np.uint32, copy=False)


def _private_key(secret: bytes) -> X25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    except ModuleNotFoundError as error:
        raise PrerequisiteError(_REMEDY) from error
    return X25519PrivateKey.from_private_bytes(secret)


def _expand(material: bytes, purpose: bytes) -> bytes:
    try:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ModuleNotFoundError as error:
        raise PrerequisiteError(_REMEDY) from error
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(material)
