"""A PNG file from a small array of pixels, as a data URI. Same pixels, same bytes; needs no imaging library."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import Any

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(image: Sequence[Sequence[Any]]) -> bytes:
    """8-bit PNG (W3C PNG, 3rd edition) of pixels 0..255, (height, width) grey or (height, width, 3) colour."""
    colour = isinstance(image[0][0], Sequence)
    rows = [bytes(value for pixel in row for value in pixel) if colour else bytes(row) for row in image]
    header = struct.pack(">IIBBBBB", len(image[0]), len(image), 8, 2 if colour else 0, 0, 0, 0)
    # Each row starts with its filter; 0 leaves it as it is.
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def data_uri(image: Sequence[Sequence[Any]]) -> str:
    """`data:image/png;base64,...`."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
