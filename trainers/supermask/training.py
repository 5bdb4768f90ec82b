"""Training masks: any number of models, or clients, of one frozen network in one program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ...audit.errors import ConfigError
from ..sampling import Positions

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .module import Masked

CHUNK = 16
"""Models trained at a time: beyond it their scores leave the cache of a CPU."""
BETAS, TINY = (0.9, 0.999), 1e-8
"""Adam's own constants (Kingma and Ba 2015, arXiv 1412.6980)."""


@dataclass(frozen=True, slots=True)
class MaskPlan:
    """The optimizer of scores, and what is added to each batch's mean loss: `entropy_penalty` times the mean entropy of
    the mask's bits in nats, which drives them to certainty (after Isik et al. 2023, arXiv 2309.10834), and
    `sparsity_penalty` times the squared distance of the mean of sigmoid(scores) from `sparsity_target`."""

    learning_rate: float = 0.1
    optimizer: Literal["adam", "sgd"] = "adam"
    entropy_penalty: float = 0.0
    sparsity_penalty: float = 0.0
    sparsity_target: float | None = None

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate must be > 0, got {self.learning_rate}")
        if self.optimizer not in ("adam", "sgd"):
            raise ConfigError(f"optimizer must be 'adam' or 'sgd', got {self.optimizer!r}")
        for key in ("entropy_penalty", "sparsity_penalty"):
            if not getattr(self, key) >= 0:
                raise ConfigError(f"{key} must be >= 0, got {getattr(self, key)}")
        if self.sparsity_target is not None and not 0 < self.sparsity_target < 1:
            raise ConfigError(f"sparsity_target must lie in (0, 1), got {self.sparsity_target}")
        if self.sparsity_penalty and self.sparsity_target is None:
            raise ConfigError("sparsity_penalty needs sparsity_target, the share of weights to keep")

    def penalty(self, scores: Tensor) -> Tensor:
        """What is added to a batch's mean loss."""
        theta = scores.sigmoid()
        out = scores.new_zeros(())
        if self.entropy_penalty:
            # H(sigmoid(s)) = softplus(s) - s sigmoid(s), without logarithms of zero.
            entropy = scores.clamp(min=0) + (-scores.abs()).exp().log1p() - scores * theta
            out = out + self.entropy_penalty * entropy.mean()
        if self.sparsity_penalty and self.sparsity_target is not None:
            out = out + self.sparsity_penalty * (theta.mean() - self.sparsity_target) ** 2
        return out


@dataclass(slots=True)
class Moments:
    """A stack's optimizer state: every model counts its own steps and stands still where `active` is false."""

    plan: MaskPlan
    first: Tensor
    second: Tensor
    steps: Tensor

    @classmethod
    def start(cls, plan: MaskPlan, flat: Tensor) -> Moments:
        """At rest, for flat trainables (models, dimension)."""
        return cls(plan, flat.new_zeros(flat.shape), flat.new_zeros(flat.shape), flat.new_zeros((len(flat), 1)))

    def move(self, flat: Tensor, gradient: Tensor, active: Tensor) -> None:
        """One step in place; `active` bool (models, 1)."""
        if self.plan.optimizer == "sgd":
            flat.sub_(self.plan.learning_rate * gradient * active)
            return
        here = slice(None) if bool(active.all()) else active[:, 0].nonzero()[:, 0]
        self.steps[here] += 1
        first, second, steps = self.first[here], self.second[here], self.steps[here]
        first.mul_(BETAS[0]).add_(gradient[here], alpha=1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(gradient[here], gradient[here], value=1 - BETAS[1])
        scale = self.plan.learning_rate / (1 - BETAS[0] ** steps)
        flat[here] -= scale * first / ((second / (1 - BETAS[1] ** steps)).sqrt() + TINY)
        if not isinstance(here, slice):
            self.first[here], self.second[here] = first, second


@dataclass(slots=True)
class MaskStack:
    """Trains models of one `module` from their own starts on their own batches of `features` and `labels`."""

    module: Masked
    features: Tensor
    labels: Tensor
    plan: MaskPlan

    def train(
        self, start: Tensor, batches: Sequence[Sequence[Positions]], generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Flat trainables (models, dimension) after all batches of each model; `start` is left as it is.

        A step minimises the mean loss of the model's own batch, so that padding changes nothing. `generators` draw the
        masks, one stream a model.
        """
        import torch

        parts = []
        chunk = CHUNK if getattr(self.module.network, "stackable", True) else 1
        for first in range(0, len(start), chunk):
            here = slice(first, first + chunk)
            parts.append(self._chunk(start[here].clone(), batches[here], generators[here]))
        return torch.cat(parts)

    def _chunk(
        self, flat: Tensor, batches: Sequence[Sequence[Positions]], generators: Sequence[torch.Generator]
    ) -> Tensor:
        import torch

        state = Moments.start(self.plan, flat)
        uniform = flat.new_full((len(flat), len(self.module.scores)), 0.5)
        for step in range(max(map(len, batches), default=0)):
            now = [b[step] if step < len(b) else np.empty(0, np.int64) for b in batches]
            if self.module.rule.samples:
                for row, generator in zip(uniform, generators, strict=True):
                    torch.rand(row.shape, generator=generator, out=row)
            index, share = padded(now, flat.device, flat.dtype)
            gradient = self.gradient(flat, uniform, index, share)
            active = torch.tensor([[len(b) > 0] for b in now], device=flat.device)
            state.move(flat, gradient, active)
        return flat

    def gradient(self, flat: Tensor, uniform: Tensor, index: Tensor, share: Tensor) -> Tensor:
        """Gradients (models, dimension) of the sum over records of share times loss, and of the penalties."""
        import torch

        flat = flat.detach().requires_grad_()
        loss = torch.func.vmap(self._loss) if len(flat) > 1 else _one(self._loss)
        total = loss(flat, uniform, self.features[index], self.labels[index], share).sum()
        gradient: Tensor = torch.autograd.grad(total, flat)[0]
        return gradient

    def _loss(self, flat: Tensor, uniform: Tensor, features: Tensor, labels: Tensor, share: Tensor) -> Tensor:
        from torch.func import functional_call
        from torch.nn.functional import cross_entropy

        state = {**unflatten(self.module, flat), "uniform": uniform}
        logits = functional_call(self.module, state, (features,))
        loss: Tensor = (cross_entropy(logits, labels, reduction="none") * share).sum()
        if self.plan.entropy_penalty or self.plan.sparsity_penalty:
            loss = loss + self.plan.penalty(state["scores"])
        return loss


def _one(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`loss` for a stack of one, without vmap: some networks do not take it."""

    def single(*stacked: Tensor) -> Tensor:
        return loss(*(s[0] for s in stacked))

    return single


def padded(batches: Sequence[Positions], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Positions (models, width) int64 and each record's share of its model's mean (models, width), 0 for padding."""
    import torch

    width = max(1, max(map(len, batches)))
    positions = np.zeros((len(batches), width), np.int64)
    shares = np.zeros((len(batches), width))
    for slot, batch in enumerate(batches):
        positions[slot, : len(batch)] = batch
        shares[slot, : len(batch)] = 1 / max(1, len(batch))
    return torch.from_numpy(positions).to(device), torch.from_numpy(shares).to(device, dtype)


def flatten(module: Masked) -> Tensor:
    """The trainables end to end, (dimension,): scores, then the free head."""
    import torch

    return torch.cat([p.detach().ravel() for p in module.parameters() if p.requires_grad])


def unflatten(module: Masked, flat: Tensor) -> dict[str, Tensor]:
    """The trainables by name as views of `flat` (dimension,)."""
    out, start = {}, 0
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            out[name] = flat[start : start + parameter.numel()].view(parameter.shape)
            start += parameter.numel()
    return out


def write_flat(module: Masked, flat: Tensor) -> None:
    """Copy `flat` (dimension,) into the trainables."""
    import torch

    with torch.no_grad():
        for name, value in unflatten(module, flat).items():
            module.get_parameter(name).copy_(value)
