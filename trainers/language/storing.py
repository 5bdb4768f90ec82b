"""Language models in a folder: weights, architecture and tokenizer, all as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...audit.claims_json import claim_from_json
from ...audit.errors import StaleArtifactError
from ...audit.types import Trained
from ..persistence import RECORD, WEIGHTS, load_weights, save_trained
from .tokenizer import TOKENIZER_FILE, ByteTokenizer, SubwordTokenizer, Tokenizer, read_tokenizer

CONFIG = "config.json"


def save_language(trained: Trained, folder: Path, *, spec: dict[str, Any]) -> None:
    """As `save_trained`, with the architecture's `config.json` and the tokenizer."""
    save_trained(trained, folder, spec=spec)
    (folder / CONFIG).write_text(trained.model.inner.config.to_json_string(use_diff=False), encoding="utf-8")
    tokenizer = trained.target.tokenizer  # type: ignore[attr-defined]
    if isinstance(tokenizer, SubwordTokenizer):
        tokenizer.save(folder)


def load_language(folder: Path, *, device: str) -> Trained:
    """What `save_language` wrote. Raises `StaleArtifactError` for a folder that is not whole."""
    from .fitting import target_of
    from .model import model_of_config

    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StaleArtifactError(f"{folder} cannot be read ({error}): remove the folder and train again") from None
    whole = (folder / TOKENIZER_FILE).is_file()
    tokenizer: Tokenizer = read_tokenizer(folder) if whole else ByteTokenizer()
    model = model_of_config(config, padding=tokenizer.padding, mask=tokenizer.mask)
    load_weights(model, folder / WEIGHTS)
    target = target_of(model, tokenizer, record["spec"]["length"], device)
    claim = None if record["claim"] is None else claim_from_json(record["claim"])
    return Trained(target.model, target, claim, record["steps"], record["metrics"])
