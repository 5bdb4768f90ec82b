"""Opacus optimizers with one mistake each, and the guarded one that is right."""

from __future__ import annotations

from typing import Any

import torch
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer import _mark_as_processed


class Guarded(DPOptimizer):  # type: ignore[misc]
    """The correct one: Opacus's, with infinite and undefined entries of per-example gradients set to zero first.

    Opacus 1.6 multiplies them by a clipping factor of zero, which is NaN, and one example shows in the release.
    """

    noise_multiplier: float
    max_grad_norm: float

    def clip_and_accumulate(self) -> None:
        """Clip each example's finite gradient and sum."""
        for sample in self.grad_samples:
            torch.nan_to_num_(sample, nan=0.0, posinf=0.0, neginf=0.0)
        super().clip_and_accumulate()

    def put_sums(self, sums: list[torch.Tensor]) -> None:
        """Take `sums`, one a parameter, for the clipped sums of this batch."""
        for p, total in zip(self.params, sums, strict=True):
            p.summed_grad = total if p.summed_grad is None else p.summed_grad + total
            _mark_as_processed(p.grad_sample)

    def add_scaled_noise(self, factor: float) -> None:
        """Opacus's noise times `factor`."""
        claimed: float = self.noise_multiplier
        self.noise_multiplier = claimed * factor
        super().add_noise()
        self.noise_multiplier = claimed


class NoNoise(Guarded):
    """Forgets the noise."""

    def add_noise(self) -> None:
        """Release the sum as it is."""
        for p in self.params:
            p.grad = p.summed_grad.view_as(p)


class HalfNoise(Guarded):
    """Half the standard deviation."""

    def add_noise(self) -> None:
        """Noise of sigma C / 2."""
        self.add_scaled_noise(0.5)


class NoiseOverBatch(Guarded):
    """Scales the noise for the mean but adds it to the sum: too small by the batch size."""

    def add_noise(self) -> None:
        """Noise of sigma C / B before the division by B."""
        self.add_scaled_noise(1.0 / self.expected_batch_size)


class NoClipping(Guarded):
    """Sums gradients as they are."""

    def clip_and_accumulate(self) -> None:
        """No norm is looked at."""
        self.put_sums([sample.sum(0) for sample in self.grad_samples])


class MeanClipped(Guarded):
    """`clip_grad_norm_` on the mean gradient, with the noise of a per-example mean, sigma C / B."""

    def clip_and_accumulate(self) -> None:
        """The mean clipped as one vector; times B, because the division follows."""
        means = [sample.sum(0) / max(1, len(sample)) for sample in self.grad_samples]
        self.put_sums([m * self.expected_batch_size for m in _clipped(means, self.max_grad_norm)])


class BatchClipped(Guarded):
    """Clips the batch's summed gradient to C, with noise sigma C: one example can turn it round, which moves it 2 C."""

    def clip_and_accumulate(self) -> None:
        """The sum clipped as one vector."""
        self.put_sums(_clipped([sample.sum(0) for sample in self.grad_samples], self.max_grad_norm))


class FreeBias(Guarded):
    """Clips matrices; vectors (biases, scales of normalisation layers) pass as they are."""

    def clip_and_accumulate(self) -> None:
        """The right sums, then those of one-dimensional parameters without clipping."""
        super().clip_and_accumulate()
        for p, sample in zip(self.params, self.grad_samples, strict=True):
            if p.dim() == 1:
                p.summed_grad = sample.sum(0)


class BareLayer(Guarded):
    """Adds no noise to the last layer."""

    def add_noise(self) -> None:
        """All noise, then the last parameter's sum without."""
        super().add_noise()
        last = self.params[-1]
        last.grad = last.summed_grad.view_as(last)


class FrozenNoise(Guarded):
    """Sets the noise generator back to its seed before every step."""

    def add_noise(self) -> None:
        """The same noise as in every other step."""
        if self.generator is not None:
            self.generator.manual_seed(self.generator.initial_seed())
        super().add_noise()


class RealisedDivisor(Guarded):
    """Divides by the number of examples in the batch that was drawn."""

    def scale_grad(self) -> None:
        """A mean over the realised batch."""
        for p in self.params:
            p.grad /= max(1, len(p.grad_sample))


class LossScaled(Guarded):
    """Mixed precision: noise sigma C goes onto gradients still multiplied by the loss scale, which is then undone."""

    scale = 128.0

    def clip_and_accumulate(self) -> None:
        """Clipped sums, scaled."""
        super().clip_and_accumulate()
        for p in self.params:
            p.summed_grad = p.summed_grad * self.scale

    def scale_grad(self) -> None:
        """Divide by the batch and by the loss scale: noise included."""
        super().scale_grad()
        for p in self.params:
            p.grad /= self.scale


class MedianClip(Guarded):
    """Sets the clipping norm to the median norm of the batch, exactly and at no cost in the accountant."""

    def pre_step(self, closure: Any = None) -> Any:
        """Adapt the norm, then step as usual."""
        samples = self.grad_samples
        if len(samples[0]):
            flat = torch.stack([s.reshape(len(s), -1).norm(dim=1) for s in samples], dim=1)
            self.max_grad_norm = max(1e-6, float(flat.norm(dim=1).median()))
        return super().pre_step(closure)


def _clipped(vectors: list[torch.Tensor], norm: float) -> list[torch.Tensor]:
    """All of `vectors` together as one vector of norm at most `norm`."""
    length = float(torch.stack([v.square().sum() for v in vectors]).sum().sqrt())
    factor = min(1.0, norm / (length + 1e-6))
    return [v * factor for v in vectors]
