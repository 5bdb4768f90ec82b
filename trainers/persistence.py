"""Trained models in a folder: weights as safetensors, everything else as `train.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
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
PUBLIC = "public-weights"
"""Metadata of a weights file that leaves out frozen public weights: their digest."""


def save_trained(trained: Trained, folder: Path, *, spec: dict[str, Any]) -> None:
    """Write `model.safetensors` and `train.json` (spec, steps, claim, metrics) into the existing `folder`.

    Weights that follow from the specification alone (a module's `public_names`) are named by their digest only.
    """
    from safetensors.torch import save_file

    public = public_names(trained.model)
    kept = {k: v for k, v in trained.model.state_dict().items() if k not in public}
    weights = {k: v.detach().cpu().contiguous().clone() for k, v in kept.items()}
    save_file(weights, folder / WEIGHTS, {PUBLIC: weights_digest(trained.model, public)} if public else None)
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
    """Copy safetensors weights into `module`, cast to its types. Raises `StaleArtifactError` where they do not fit, or
    were trained on other public weights than the module holds."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    public = public_names(module)
    try:
        with safe_open(path, framework="pt") as file:
            named = (file.metadata() or {}).get(PUBLIC)
        if named is not None and named != weights_digest(module, public):
            raise StaleArtifactError(
                f"{path}: trained on other frozen weights than the architecture now brings: restore them or train again"
            )
        held = load_file(path)
        own = module.state_dict()
        module.load_state_dict({**{k: own[k] for k in public}, **held} if named is not None else held)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise StaleArtifactError(
            f"{path}: the weights cannot be loaded into the architecture: {reason[:300]}"
        ) from None


def public_names(module: nn.Module) -> frozenset[str]:
    """The parameters that an architecture declares to follow from its specification alone, such as frozen pretrained
    ones; empty for most."""
    return frozenset(getattr(module, "public_names", ()))


def weights_digest(module: nn.Module, names: Iterable[str]) -> str:
    """SHA-256 of names, types, shapes and bytes of these entries of the module's state."""
    state, digest = module.state_dict(), hashlib.sha256()
    for name in sorted(names):
        array = state[name].detach().cpu().contiguous().numpy()
        digest.update(f"{name}\x1f{array.dtype.str}\x1f{array.shape}\x1f".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def plain_spec(trainer: Any) -> dict[str, Any]:
    """The fields of a trainer as JSON values, with its name and version."""
    fields: dict[str, Any] = json.loads(json.dumps(asdict(trainer)))
    return {"name": trainer.name, "version": trainer.version, **fields}
