"""Training of one denoising autoencoder (Vincent, Larochelle, Bengio, Manzagol 2008)."""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...audit.claims_json import claim_from_json
from ...audit.errors import ConfigError, IncompatibleError, StaleArtifactError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Rows, Trained
from ..persistence import RECORD, WEIGHTS, load_weights
from ..recipe import Recipe, course
from ..sampling import batch_stream
from ..steps import make_step
from ..tensors import feature_tensor
from .networks import AutoencoderNetwork, AutoencoderSpec, build_autoencoder, record_errors, summed_error
from .target import AutoencoderTarget

BLOCK = 64
"""Steps whose batches are drawn ahead."""


@dataclass(frozen=True, slots=True)
class Corruption:
    """What is done to records before they are encoded: `share` is the standard deviation of added Gaussian noise, or
    the chance of each number to become 0. Drawn without looking at the record, so that it costs no privacy."""

    kind: Literal["gaussian", "masking"]
    share: float

    def __post_init__(self) -> None:
        if self.kind not in ("gaussian", "masking"):
            raise ConfigError(f"corruption must be 'gaussian' or 'masking', got {self.kind!r}")
        if not self.share >= 0 or (self.kind == "masking" and self.share >= 1):
            raise ConfigError(f"noise must be >= 0, and below 1 for masking, got {self.share}")

    def apply(self, records: Tensor, generator: torch.Generator) -> Tensor:
        """A corrupted copy of a batch."""
        if self.kind == "gaussian":
            drawn = torch.randn(records.shape, generator=generator, device=records.device, dtype=records.dtype)
            return records + self.share * drawn
        kept = torch.rand(records.shape, generator=generator, device=records.device) >= self.share
        return records * kept


def fit_autoencoder(
    spec: AutoencoderSpec,
    corruption: Corruption,
    recipe: Recipe,
    data: Rows,
    inside: BoolArray,
    *,
    seeds: Seeds,
    device: str,
) -> tuple[AutoencoderTarget, int, dict[str, float]]:
    """(target, steps, metrics) of one network trained on the features of the rows `inside`; labels are not read.

    Raises `IncompatibleError` for text, `FloatingPointError` when training ended in infinite or NaN weights.
    """
    check_features(data)
    plan = course(recipe, inside, seeds=seeds)
    records = feature_tensor(data.features, dtype=torch.float32, device=device)
    module = build_autoencoder(spec, data.features.shape[1:], seeds=seeds.at("init")).to(device)
    # Opacus leaves hooks behind, so the result is a clean copy.
    clean = copy.deepcopy(module)
    step = make_step(module, recipe, seeds=seeds, device=device, loss=summed_error)
    stream = batch_stream(
        plan.training,
        sampling=recipe.sampling,
        batch_size=recipe.batch_size,
        sample_rate=plan.sample_rate,
        seeds=seeds,
    )
    noise = seeds.at("corruption").torch_generator(device)
    done = 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        while done < plan.steps:
            batches = stream.take(min(BLOCK, plan.steps - done))
            for positions in batches.each():
                batch = records[torch.from_numpy(positions).to(device)]
                step(corruption.apply(batch, noise), batch)
                done += 1
    clean.load_state_dict(module.state_dict())
    if not all(bool(p.isfinite().all()) for p in clean.parameters()):
        raise FloatingPointError("training ended in infinite or NaN weights: lower learning_rate")
    target = AutoencoderTarget(clean, data.classes, device)
    return target, plan.steps, {"train_error": _mean_error(target, data, inside)} if inside.any() else {}


def check_features(data: Rows) -> None:
    """Refuse rows of tokens: an autoencoder reconstructs numbers."""
    if np.issubdtype(data.features.dtype, np.integer):
        raise IncompatibleError(
            f"autoencoder: data {data.name!r} holds tokens, got {data.features.dtype} features; use trainer 'language' "
            "for text, or data.text_encoding = 'bag-of-words'"
        )


def _mean_error(target: AutoencoderTarget, data: Rows, inside: BoolArray) -> float:
    features = data.features[inside]
    found = record_errors(torch.from_numpy(target.reconstruct(features)), torch.from_numpy(features))
    return float(found.mean())


def load_autoencoder(spec: AutoencoderSpec, folder: Path, data: Rows, *, device: str) -> Trained:
    """What `save_trained` wrote. Raises `StaleArtifactError` for a folder that is not whole."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StaleArtifactError(
            f"{folder / RECORD} cannot be read ({error}): remove the folder and train again"
        ) from None
    # The initial weights are overwritten; any seed will do.
    module: AutoencoderNetwork = build_autoencoder(spec, data.features.shape[1:], seeds=Seeds(0))
    load_weights(module, folder / WEIGHTS)
    target = AutoencoderTarget(module, data.classes, device)
    claim = None if record["claim"] is None else claim_from_json(record["claim"])
    return Trained(module, target, claim, record["steps"], record["metrics"])
