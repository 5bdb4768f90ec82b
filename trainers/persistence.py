"""Trained models in a folder: weights as safetensors, everything else as `train.json`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..audit.claims_json import claim_from_json, claim_to_json
from ..audit.errors import StaleArtifactError
from ..audit.seeds import Seeds
from ..audit.types import Rows, Trained
from .models import build_model
from .recipe import Recipe
from .targets import TorchTarget

if TYPE_CHECKING:
    from torch import nn

WEIGHTS, RECORD = "model.safetensors", "train.json"


def save_trained(trained: Trained, folder: Path, *, spec: dict[str, Any]) -> None:
    """Write `model.safetensors` and `train.json` (spec, steps, claim, metrics) into the existing `folder`."""
    from safetensors.torch import save_file

    weights = {k: v.detach().cpu().contiguous().clone() for k, v in trained.model.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    record = {
        "spec": spec,
        "steps": trained.steps,
        "claim": None if trained.claim is None else claim_to_json(trained.claim),
        "metrics": dict(trained.metrics),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_trained(folder: Path, data: Rows, *, recipe: Recipe, device: str) -> Trained:
    """What `save_trained` wrote, with the architecture of `recipe` and the input shape and classes of `data`.

    Raises `StaleArtifactError` when the folder is not whole or its weights do not fit the architecture.
    """
    import torch

    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StaleArtifactError(
            f"{folder / RECORD} cannot be read ({error}): remove the folder and train again"
        ) from None
    # The initial weights are overwritten; any seed will do.
    module = build_model(recipe.model, data.features.shape[1:], data.classes, seeds=Seeds(0))
    module = module.to(getattr(torch, recipe.dtype))
    load_weights(module, folder / WEIGHTS)
    module = module.to(device).eval()
    claim = None if record["claim"] is None else claim_from_json(record["claim"])
    return Trained(module, TorchTarget(module, device), claim, record["steps"], record["metrics"])


def load_weights(module: nn.Module, path: Path) -> None:
    """Copy safetensors weights into `module`, cast to its types. Raises `StaleArtifactError` where they do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise StaleArtifactError(
            f"{path}: the weights cannot be loaded into the architecture: {reason[:300]}"
        ) from None


def plain_spec(trainer: Any) -> dict[str, Any]:
    """The fields of a trainer as JSON values, with its name and version."""
    fields: dict[str, Any] = json.loads(json.dumps(asdict(trainer)))
    return {"name": trainer.name, "version": trainer.version, **fields}
