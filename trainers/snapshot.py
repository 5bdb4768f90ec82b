"""What a training loop of one model needs in order to go on: weights, optimizer state and random streams as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def snapshot(
    module: nn.Module, optimizer: torch.optim.Optimizer, noise: torch.Generator | None, device: str | torch.device
) -> dict[str, Tensor]:
    """Everything by name: `model.*`, `optimizer.<parameter>.<slot>`, `random.*` (torch's global streams) and
    `noise`."""
    import torch

    tensors = {f"model.{k}": v for k, v in module.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in slots.items() if v is not None}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.device(device).type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    if noise is not None:
        tensors["noise"] = noise.get_state()
    return tensors


def restore(
    tensors: dict[str, Tensor],
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    noise: torch.Generator | None,
    device: str | torch.device,
) -> None:
    """Put back what `snapshot` gave."""
    import torch

    module.load_state_dict(below(tensors, "model."))
    slots: dict[int, dict[str, Any]] = {}
    for name, value in below(tensors, "optimizer.").items():
        index, _, key = name.partition(".")
        slots.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], device)
    if noise is not None:
        noise.set_state(tensors["noise"])


def below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
