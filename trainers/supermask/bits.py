"""A mask in a file: packed bits, the free head if there is one, and the digest of the weights it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError, StaleArtifactError
from ...audit.types import BoolArray

if TYPE_CHECKING:
    from .module import Masked

FORMAT = "leakgauge/mask/1"


def pack(bits: BoolArray) -> NDArray[np.uint8]:
    """Eight bits a byte, the first in the highest place; (ceil(d / 8),)."""
    return np.packbits(bits)


def unpack(packed: NDArray[np.uint8], count: int) -> BoolArray:
    """What `pack` packed. Raises `StaleArtifactError` where the length does not fit `count` bits."""
    if packed.dtype != np.uint8 or packed.shape != (-(-count // 8),):
        raise StaleArtifactError(f"mask: {packed.shape} {packed.dtype} are not {count} packed bits")
    return np.unpackbits(packed, count=count).astype(np.bool_)


def save_mask(module: Masked, path: Path) -> None:
    """Write the mask of `module` as safetensors: `mask` (packed) and `head.<name>`; the rest is metadata."""
    import torch
    from safetensors.torch import save_file

    bits = module.bits().cpu().numpy()
    weights = dict(module.network.named_parameters())
    tensors = {"mask": torch.from_numpy(pack(bits))}
    tensors |= {f"head.{n}": weights[n].detach().cpu().contiguous().clone() for n in module.free}
    metadata = {
        "format": FORMAT,
        "rule": module.rule.name,
        "place": module.place,
        "bits": str(len(bits)),
        "layers": _layers(module),
        "frozen": module.digest(),
    }
    save_file(tensors, path, metadata=metadata)


def load_mask(module: Masked, path: Path) -> None:
    """Apply the mask in `path` to `module`.

    Raises `StaleArtifactError` for a file that is no mask, `IncompatibleError` for one that was learned on other frozen
    weights, by another rule, or over other layers.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise StaleArtifactError(f"{path}: the mask cannot be read: {error}") from None
    if metadata.get("format") != FORMAT or "mask" not in tensors:
        raise StaleArtifactError(f"{path} is no mask file (format {metadata.get('format')!r})")
    _agree(path, "frozen", metadata["frozen"], module.digest(), "apply it to the weights that it was learned on")
    _agree(path, "rule", metadata["rule"], module.rule.name, "build the model with the mask's own rule")
    # Files of version 1 that say nothing are from before outputs could be masked.
    _agree(path, "place", metadata.get("place", "weights"), module.place, "mask what it was learned on")
    _agree(path, "bits", metadata["bits"], str(len(module.scores)), "mask the layers that it was learned on")
    # Layers of one shape have masks of one size; older files do not say which.
    _agree(path, "layers", metadata.get("layers", _layers(module)), _layers(module), "mask the layers of the file")
    heads = {f"head.{n}" for n in module.free}
    _agree(path, "head", str(sorted(heads)), str(sorted(k for k in tensors if k != "mask")), "use the same head option")
    module.write_bits(torch.from_numpy(unpack(tensors["mask"].numpy(), len(module.scores))))
    weights = dict(module.network.named_parameters())
    with torch.no_grad():
        for name in module.free:
            weights[name].copy_(tensors[f"head.{name}"])


def _layers(module: Masked) -> str:
    """The masked pieces in the order of their bits."""
    return ",".join(piece.name for piece in module.pieces)


def _agree(path: Path, what: str, stored: str, own: str, remedy: str) -> None:
    if stored != own:
        raise IncompatibleError(f"{path}: the mask has {what} {stored[:60]}, the model {own[:60]}: {remedy}")
