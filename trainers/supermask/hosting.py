"""Gradient canaries in the training of mask scores: DP-SGD on scores, or its unprotected twin, with canaries inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...audit.canaries import CanarySet, Witnessed
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Claim, Progress, Rows
from ..recipe import Protection
from ..release import clipped
from ..sampling import batch_stream
from ..tensors import feature_tensor, label_tensor
from ..whitebox.canaries import GradientCanaries, slot_numbers
from ..whitebox.hosting import canaries_of
from .private import sum_of_clipped, with_noise
from .recipe import MaskRecipe
from .steps import Steps
from .training import Moments, flatten, write_flat

if TYPE_CHECKING:
    from torch import Tensor

    from .module import Masked


def host_score_canaries(
    recipe: MaskRecipe,
    steps: Steps,
    private: Protection | None,
    data: Rows,
    rows: BoolArray,
    canaries: CanarySet,
    claim: Claim | None,
    *,
    seeds: Seeds,
    device: str,
    progress: Progress,
) -> Witnessed:
    """Train on `data.take(rows)` and the inserted canaries; the observer sees every released sum of gradients.

    A canary is a row whose gradient in the scores is zero and in coordinates of its own is a known vector, `strength`
    times the clip, so that clipping the real rows' gradients and the canaries' apart is clipping both over all
    coordinates. Noise lies on all coordinates. `transcript["projections"]` float32 (steps, canaries), in units of what
    one clipped canary adds. `private` None trains the twin, without clip and noise.
    """
    crafted = canaries_of(canaries)
    real, steps = data.take(rows), steps.with_room(crafted.count)
    run = _Hosted(recipe.build(data, seeds=seeds, device=device), recipe, crafted, private, seeds, device)
    slots = slot_numbers(len(real), canaries.inside)
    features = feature_tensor(real.features, dtype=run.flat.dtype, device=device)
    labels = label_tensor(real.labels, device=device)
    stream = batch_stream(
        np.arange(len(slots)), sampling="poisson", batch_size=steps.batch, sample_rate=steps.rate, seeds=seeds
    )
    projections = np.zeros((steps.count, crafted.count), np.float32)
    for step, batch in enumerate(stream.take(steps.count).each()):
        own = run.tensor(batch[batch < len(real)])
        projections[step] = run.step(features[own], labels[own], slots[batch[batch >= len(real)]], steps.batch)
        progress(step + 1, steps.count)
    public = {
        "sample_rate": steps.rate,
        "steps": float(steps.count),
        "noise_multiplier": private.noise_multiplier if private else 0.0,
    }
    return Witnessed({"projections": projections}, claim, public)


class _Hosted:
    """One training in progress: the scores, the optimizer, and the coordinates of the canaries."""

    def __init__(
        self,
        module: Masked,
        recipe: MaskRecipe,
        crafted: GradientCanaries,
        private: Protection | None,
        seeds: Seeds,
        device: str,
    ) -> None:
        self.module, self.private, self.crafted, self.device = module, private, crafted, device
        self.flat = flatten(module)[None]
        self._state = Moments.start(recipe.plan, self.flat)
        self._masks, self._noise = (seeds.at(name).torch_generator(device) for name in ("masks", "noise"))
        self._directions = crafted.directions(seeds=seeds.at("directions"), device=device)

    def tensor(self, positions: NDArray[np.int64]) -> Tensor:
        """Positions on the device."""
        import torch

        return torch.from_numpy(positions).to(self.device)

    def step(self, features: Tensor, labels: Tensor, slots: NDArray[np.int64], batch: int) -> NDArray[np.float32]:
        """Draw masks, add up, add noise, move the scores; what every canary's coordinates show (canaries,)."""
        import torch

        if self.module.rule.samples:
            torch.rand(self.module.uniform.shape, generator=self._masks, out=self.module.uniform)
        norm = self.private.max_grad_norm if self.private else 1.0
        total = torch.cat([self._real_sum(features, labels), self._canary_sum(slots[slots >= 0], norm)])
        if self.private is not None:
            total = with_noise(total, self.private, self._noise)
        size = self.flat.shape[1]
        move = total[None, :size] / batch
        self._state.move(self.flat, move, self.flat.new_ones((1, 1), dtype=torch.bool))
        write_flat(self.module, self.flat[0])
        seen = total[size:] if self._directions is None else self._directions @ total[size:]
        out: NDArray[np.float32] = (seen / norm).cpu().numpy().astype(np.float32)
        return out

    def _real_sum(self, features: Tensor, labels: Tensor) -> Tensor:
        if self.private is not None:
            return sum_of_clipped(self.module, features, labels, self.private.max_grad_norm)
        return _plain_sum(self.module, features, labels)

    def _canary_sum(self, inserted: NDArray[np.int64], norm: float) -> Tensor:
        """The sum (width,) of the gradients of the canaries `inserted`, clipped where training clips."""
        import torch

        chosen = self.tensor(inserted)
        if self._directions is None:
            rows = torch.nn.functional.one_hot(chosen, self.crafted.width).to(self.flat.dtype)
        else:
            rows = self._directions[chosen]
        gradients = self.crafted.strength * norm * rows
        return (gradients if self.private is None else clipped(gradients, norm)).sum(0)


def _plain_sum(module: Masked, features: Tensor, labels: Tensor) -> Tensor:
    """The gradient (dimension,) of the summed cross-entropy; zero for no record."""
    import torch

    if not len(labels):
        return flatten(module).zero_()
    loss = torch.nn.functional.cross_entropy(module(features), labels, reduction="sum")
    wanted = [p for p in module.parameters() if p.requires_grad]
    return torch.cat([g.ravel() for g in torch.autograd.grad(loss, wanted)])
