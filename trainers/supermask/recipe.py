"""What both mask trainers share: the frozen network, the rule, the optimizer, and how models are stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...audit.claims_json import claim_from_json, claim_to_json
from ...audit.errors import ConfigError, StaleArtifactError
from ...audit.seeds import Seeds
from ...audit.types import Claim, Rows, Trained
from ..models import ModelSpec
from ..persistence import RECORD, plain_spec
from ..targets import TorchTarget
from ..tensors import feature_tensor, fit_quality, label_tensor
from .bits import load_mask, save_mask
from .frozen import FrozenSpec, Origin, maskable
from .module import Head, Masked
from .outputs import PLACES, Place, output_pieces
from .rules import Rule, RuleName
from .training import MaskPlan

MASK = "mask.safetensors"


@dataclass(frozen=True, slots=True)
class MaskRecipe:
    """A masked model but for its rows and seeds. `initial` is the first score, the rule's own start when None; `place`
    says whether the mask lies on weights or on the outputs of layers."""

    frozen: FrozenSpec
    rule: Rule
    plan: MaskPlan
    head: Head = "masked"
    initial: float | None = None
    place: Place = "weights"

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise ConfigError(f"place must be 'weights' or 'outputs', got {self.place!r}")
        if self.head not in ("masked", "trained"):
            raise ConfigError(f"head must be 'masked' or 'trained', got {self.head!r}")

    def build(self, data: Rows, *, seeds: Seeds, device: str) -> Masked:
        """The masked model before training. Frozen weights follow from the recipe alone, random scores from `seeds`."""
        network = self.frozen.build(data.features.shape[1:], data.classes)
        if self.place == "weights":
            pieces = maskable(network, self.frozen.layers)
        else:
            pieces = output_pieces(network, self.frozen.layers, data.features.shape[1:])
        generator = seeds.at("scores").torch_generator()
        how: dict[str, Any] = {"head": self.head, "initial": self.initial, "place": self.place}
        return Masked(network, pieces, self.rule, **how, generator=generator).to(device)


def mask_recipe(
    model: ModelSpec,
    *,
    rule: RuleName,
    frozen: Origin,
    frozen_seed: int,
    frozen_weights: str | None,
    frozen_gain: float,
    fresh_head: bool,
    layers: tuple[str, ...],
    keep: float,
    head: Head,
    initial: float | None,
    plan: MaskPlan,
    place: Place = "weights",
) -> MaskRecipe:
    """A recipe from a trainer's fields; random frozen weights are scaled for the share that the first mask keeps."""
    chosen = Rule(rule, keep)
    density = {"top-k": keep, "bernoulli": 0.5, "threshold": 1.0, "sign": 1.0}[rule]
    spec = FrozenSpec(model, frozen, frozen_seed, frozen_weights, tuple(layers), density, frozen_gain, fresh_head)
    return MaskRecipe(spec, chosen, plan, head, initial, place)


def sealed(
    module: Masked, data: Rows, inside: Any, *, claim: Claim | None, steps: int, device: str, **metrics: float
) -> Trained:
    """The released model: mask and head, without the scores that led to it, and how well it fits its own rows.

    Raises `FloatingPointError` when training ended in infinite or NaN scores.
    """
    import torch

    if not all(bool(p.isfinite().all()) for p in module.parameters()):
        raise FloatingPointError("training ended in infinite or NaN scores: lower learning_rate")
    module.seal()
    features = feature_tensor(data.features, dtype=torch.float32, device=device)
    rows = torch.from_numpy(np.flatnonzero(inside)).to(device)
    quality = fit_quality(module, features, label_tensor(data.labels, device=device), rows)
    figures = {
        "train_loss": quality.loss,
        "train_accuracy": quality.accuracy,
        "masked_weights": float(len(module.scores)),
        "kept": float(module.bits().float().mean()),
        **metrics,
    }
    return Trained(module, TorchTarget(module, device), claim, steps, figures)


def save_masked(trained: Trained, folder: Path, *, trainer: Any) -> None:
    """Write `mask.safetensors` and `train.json` into the existing `folder`; the frozen weights are only named."""
    save_mask(trained.model, folder / MASK)
    record = {
        "spec": plain_spec(trainer),
        "frozen": trained.model.digest(),
        "steps": trained.steps,
        "claim": None if trained.claim is None else claim_to_json(trained.claim),
        "metrics": dict(trained.metrics),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_masked(recipe: MaskRecipe, folder: Path, data: Rows, *, device: str) -> Trained:
    """What `save_masked` wrote, on the frozen weights of `recipe`. Errors are those of `load_mask`."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StaleArtifactError(
            f"{folder / RECORD} cannot be read ({error}): remove the folder and train again"
        ) from None
    # The initial scores are overwritten; any seed will do.
    module = recipe.build(data, seeds=Seeds(0), device="cpu")
    load_mask(module, folder / MASK)
    module = module.to(device).eval()
    claim = None if record["claim"] is None else claim_from_json(record["claim"])
    return Trained(module, TorchTarget(module, device), claim, record["steps"], record["metrics"])
