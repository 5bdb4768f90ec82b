"""What a trainer sends and releases, beside what it leaks: figures from its training record and its stored model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

WIRE = (
    "bits_per_parameter",
    "entropy_bits_per_parameter",
    "upload_bytes_per_client_round",
    "upload_bytes",
    "download_bytes",
)
"""Metrics of a training record that say what travelled; a trainer that sends nothing has none of them."""


def communication(trainer: str, record: Mapping[str, Any], model: Path) -> dict[str, Any]:
    """The trainer's entry in `audit.json`: what travelled, and the bytes of the model released from the folder `model`.

    Frozen weights that follow from a public seed are no part of a released mask. Empty where nothing is known.
    """
    stored = record.get("metrics") or {}
    figures = {name: float(stored[name]) for name in WIRE if stored.get(name) is not None}
    files = sorted(model.glob("*.safetensors"))
    if files:
        figures["released_bytes"] = float(sum(file.stat().st_size for file in files))
    return {"trainer": trainer, **figures} if figures else {}
