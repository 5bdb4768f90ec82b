"""How many models are trained at a time: as many as fit a budget of memory, by what each of them holds."""

from __future__ import annotations

import os

from ...audit.errors import ConfigError
from ..recipe import Recipe
from .engine import Engine

BYTES = {"cpu": 32 << 20, "cuda": 4 << 30}
"""Working memory of one chunk of models. On the CPU this is about the last-level cache: larger stacks are slower."""
SHARE = 4
"""At most one part in so many of the machine's or the device's memory is used, whatever `BYTES` says."""


def chunk_size(recipe: Recipe, engine: Engine, *, device: str, budget: int | None = None) -> int:
    """Models that fit `budget` bytes (None: the default for the kind of device), at least 1. The same for the same
    recipe, data and machine, so that an interrupted training finds its chunks again. Raises `ConfigError` for a budget
    that is not positive."""
    if budget is not None and budget < 1:
        raise ConfigError(f"memory must be a positive number of bytes, got {budget}")
    allowed = default_budget(device) if budget is None else budget
    return max(1, allowed // bytes_per_model(recipe, engine))


def bytes_per_model(recipe: Recipe, engine: Engine) -> int:
    """Bytes of one model in training: parameters, the best so far, gradients, optimizer slots and noise, and what its
    engine holds for one batch, which under Poisson sampling is often a half wider than expected."""
    parameters = sum(p[0].numel() for p in engine.parameters)
    copies = 3 + 2 * (recipe.optimizer.name == "adam") + (recipe.protection is not None)
    width = recipe.batch_size if recipe.sampling == "shuffle" else recipe.batch_size + 3 * recipe.batch_size**0.5
    return (copies * parameters + engine.values(int(width))) * engine.parameters[0].element_size()


def default_budget(device: str) -> int:
    """Bytes for one chunk: `BYTES`, or a share of all memory where that is less."""
    import torch

    if device.startswith("cuda"):
        total = torch.cuda.get_device_properties(device).total_memory
        return min(BYTES["cuda"], total // SHARE)
    return min(BYTES["cpu"], os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // SHARE)
