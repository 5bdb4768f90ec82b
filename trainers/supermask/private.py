"""The trainer `dp-supermask`: DP-SGD on mask scores. Thresholding and storing the mask are post-processing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...audit.canaries import CanarySet, Witnessed
from ...audit.errors import ConfigError
from ...audit.releases import ReleaseFacts
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Claim, Progress, Rows, Trained, silent
from ..promise import calibrated_noise, check_promise, sampled_claim
from ..recipe import Protection
from ..release import clipped, gaussian_release, per_record_gradients
from ..sampling import batch_stream
from ..tensors import feature_tensor, label_tensor
from ..whitebox.hosting import KINDS, canaries_of
from .module import Masked
from .recipe import sealed
from .steps import Steps
from .trainer import MaskFields, Supermask
from .training import Moments, flatten, write_flat

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ASSUMES = (
    "each row joins each step independently with the stated sampling rate (Poisson sampling), and empty batches step",
    "sampling rate, number of steps, noise and the divisor follow from nominal_rows, which is public",
    "each record's gradient over all scores (and a trained head) together is clipped; each row is one record",
    "frozen weights, the layers masked, and the draws of Bernoulli masks do not depend on the private rows",
    "the mask follows from the noisy scores alone; stored training metrics are not part of the release",
    "noise is drawn by a seeded generator in floating point: a mask that is to be released needs a secret seed",
)


@dataclass(frozen=True, slots=True)
class DpSupermask(MaskFields):
    """Scores by noisy steps on clipped per-record gradients (Abadi et al. 2016, arXiv 1607.00133; docs/supermask.md).

    Give `epsilon` and `delta`, and the noise is calibrated by PLD accounting, or `noise_multiplier` (standard deviation
    over `max_grad_norm`). `nominal_rows` is public and required: q = batch_size / nominal_rows, the steps are
    round(epochs / q), sums are divided by `batch_size`. Bernoulli masks are drawn once a step for the whole batch.
    """

    name: ClassVar[str] = "dp-supermask"
    version: ClassVar[str] = "1"

    epsilon: float | None = None
    delta: float = 1e-5
    noise_multiplier: float | None = None
    max_grad_norm: float = 1.0
    epochs: float = 30
    nominal_rows: int | None = None

    def __post_init__(self) -> None:
        check_promise(self, plain="supermask")
        self.unprotected()

    def unprotected(self) -> Supermask:
        """The same masks, sampling and steps without clipping and noise."""
        own = {name: getattr(self, name) for name in MaskFields.__dataclass_fields__}
        return Supermask(**own, epochs=self.epochs, nominal_rows=self.nominal_rows, sampling="poisson")

    def planned_steps(self, expected_rows: int) -> int:
        """Noisy steps, known before training; `expected_rows` where `nominal_rows` is open."""
        return self.unprotected().planned_steps(expected_rows)

    def planned_claim(self, expected_rows: int) -> Claim:
        """As in `PrivateTrainer`."""
        rows = self.nominal_rows or expected_rows
        noise = self.protection(rows).noise_multiplier
        claim = sampled_claim(noise, self._rate(rows), self.planned_steps(rows), self.delta)
        return replace(claim, assumes=ASSUMES)

    def protection(self, nominal_rows: int) -> Protection:
        """Clip and noise of one step."""
        noise = self.noise_multiplier
        if noise is None:
            assert self.epsilon is not None
            noise = calibrated_noise(
                self.epsilon, self.delta, self._rate(nominal_rows), self.planned_steps(nominal_rows)
            )
        return Protection(noise, self.max_grad_norm)

    def release_facts(self, delta: float) -> ReleaseFacts:
        """As in `ReleasesUpdates`: one step at full participation."""
        return gaussian_release(self.protection(self.nominal_rows or 1 << 20), delta)

    def updates(self, module: Any, features: Any, labels: Any) -> Any:
        """As in `ReleasesUpdates`: clipped gradients of the scores."""
        return clipped(per_record_gradients(module, features, labels), self.max_grad_norm)

    def hosts(self) -> tuple[str, ...]:
        """As in `CanaryHost`."""
        return tuple(KINDS)

    def planned_canary_claim(self, expected_rows: int, canaries: CanarySet) -> Claim:
        """As in `CanaryHost`: room for canaries changes neither sampling rate nor steps nor noise."""
        canaries_of(canaries)
        return self.planned_claim(expected_rows)

    def fit_with_canaries(
        self,
        data: Rows,
        rows: BoolArray,
        canaries: CanarySet,
        *,
        seeds: Seeds,
        device: str,
        checkpoint: Path | None = None,
        progress: Progress = silent,
    ) -> Witnessed:
        """As in `CanaryHost`: the observer sees every noisy sum of score gradients."""
        from .hosting import host_score_canaries

        del checkpoint
        nominal = self.nominal_rows or len(rows) // 2
        return host_score_canaries(
            self.masks(),
            self.public_steps(nominal),
            self.protection(nominal),
            data,
            rows,
            canaries,
            self.planned_claim(nominal),
            seeds=seeds,
            device=device,
            progress=progress,
        )

    def public_steps(self, nominal_rows: int) -> Steps:
        """Sampling rate, number of steps and expected batch."""
        return Steps(self._rate(nominal_rows), self.planned_steps(nominal_rows), self.batch_size)

    def fit(self, data: Rows, rows: BoolArray, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        """As in `Trainer`; not resumed. Raises `ConfigError` without `nominal_rows`."""
        del checkpoint
        if self.nominal_rows is None:
            raise ConfigError(
                "dp-supermask needs nominal_rows, a public number of rows from which sampling rate, steps and noise "
                "follow: the number of rows really used is private"
            )
        module = self.fresh_model(data, seeds=seeds, device=device)
        steps = self.planned_steps(self.nominal_rows)
        private = self.protection(self.nominal_rows)
        self._train(module, data, rows, private, steps, seeds, device)
        claim = self.planned_claim(self.nominal_rows)
        return sealed(
            module, data, rows, claim=claim, steps=steps, device=device, noise_multiplier=private.noise_multiplier
        )

    def _train(
        self, module: Masked, data: Rows, rows: BoolArray, private: Protection, steps: int, seeds: Seeds, device: str
    ) -> None:
        import torch

        features = feature_tensor(data.features, dtype=torch.float32, device=device)
        labels = label_tensor(data.labels, device=device)
        stream = batch_stream(
            np.flatnonzero(rows).astype(np.int64),
            sampling="poisson",
            batch_size=self.batch_size,
            sample_rate=self._rate(self.nominal_rows or 1),
            seeds=seeds,
        )
        flat = flatten(module)[None]
        state = Moments.start(self.masks().plan, flat)
        masks, noise = (seeds.at(name).torch_generator(device) for name in ("masks", "noise"))
        for positions in stream.take(steps).each():
            if module.rule.samples:
                torch.rand(module.uniform.shape, generator=masks, out=module.uniform)
            index = torch.from_numpy(positions).to(device)
            total = self.noisy_sum(module, features[index], labels[index], private, noise)
            state.move(flat, total[None] / self.batch_size, flat.new_ones((1, 1), dtype=torch.bool))
            write_flat(module, flat[0])

    def noisy_sum(
        self, module: Masked, features: Tensor, labels: Tensor, private: Protection, noise: torch.Generator
    ) -> Tensor:
        """The mechanism of one step: the sum of clipped per-record gradients (dimension,) with noise."""
        return with_noise(sum_of_clipped(module, features, labels, private.max_grad_norm), private, noise)

    def _rate(self, nominal_rows: int) -> float:
        return min(1.0, self.batch_size / nominal_rows)


def sum_of_clipped(module: Masked, features: Tensor, labels: Tensor, clip: float) -> Tensor:
    """Per-record gradients of the trainables clipped to L2 norm `clip`, summed, (dimension,); zero for no record."""
    if not len(labels):
        return flatten(module).zero_()
    return clipped(per_record_gradients(module, features, labels), clip).sum(0)


def with_noise(total: Tensor, private: Protection, generator: torch.Generator) -> Tensor:
    """`total` (dimension,) with Gaussian noise of `noise_multiplier` clips on every coordinate."""
    import torch

    scale = private.noise_multiplier * private.max_grad_norm
    return total + scale * torch.randn(total.shape, generator=generator, device=total.device)
