"""What a federated training sends: bits a parameter, bytes a client sends in a round, and bytes in all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .rounds import Federation

WORD = 32
"""Bits of a single-precision number, and of one coordinate under secure aggregation."""


def wire_figures(parameters: int, *, uploads: int, upload_bits: float, download_bits: float) -> dict[str, float]:
    """Figures of a whole training from its number of uploads and the bits of all uploads and all downloads.

    `parameters` are those that training moves. Framing, key exchange and counts of examples are left out.
    """
    each = upload_bits / max(1, uploads)
    return {
        "bits_per_parameter": each / parameters,
        "upload_bytes_per_client_round": each / 8,
        "upload_bytes": upload_bits / 8,
        "download_bytes": download_bits / 8,
    }


def dense_figures(federation: Federation, parameters: int, buffer_values: int, word: int = WORD) -> dict[str, float]:
    """Where every client sends and gets all parameters, and the buffers that are averaged, as words of `word` bits."""
    answered, asked = federation.counts["answered"], federation.counts["asked"]
    each = float(word * (parameters + buffer_values))
    return wire_figures(parameters, uploads=answered, upload_bits=each * answered, download_bits=each * asked)
