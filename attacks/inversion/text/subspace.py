"""The span of a layer's inputs, read from the gradient of its weight (Petrov et al. 2024, DAGER, arXiv 2405.15586).

The gradient of a linear map y = W x over a batch is the sum of delta_t x_t^T over its tokens: every input x_t lies in a
space of dimension at most the number of tokens. While that is below the width, a wrong input is outside almost surely.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ....audit.errors import ConfigError

LEAST_SINGULAR = 1e-6
"""Singular values below this share of the largest are rounding of single precision, not tokens."""


@dataclass(frozen=True, slots=True)
class Subspace:
    """Orthonormal `basis` (rank, width) of the inputs that a gradient has seen."""

    basis: Any
    width: int

    @property
    def rank(self) -> int:
        """Dimension; at `width` every input fits and the test is blind."""
        return len(self.basis)

    @property
    def blind(self) -> bool:
        """Whether the space is everything."""
        return self.rank >= self.width

    def distance(self, inputs: Any) -> Any:
        """Share of each input's norm outside the space, (...,) in [0, 1]; differentiable in `inputs` (..., width)."""
        inside = inputs @ self.basis.T @ self.basis
        return (inputs - inside).norm(dim=-1) / inputs.norm(dim=-1).clamp(min=1e-12)


def input_space(gradient: Any, *, tokens: int) -> Subspace:
    """The space spanned by the inputs of a weight whose `gradient` is (inputs, outputs), from at most `tokens` tokens.

    Give the query, key and value columns together: under a causal mask the query of position 0 has no gradient, and a
    test on queries alone loses the first token. `ConfigError` for a gradient that is not finite or zero.
    """
    import torch

    if gradient.ndim != 2 or not bool(gradient.isfinite().all()):
        raise ConfigError(f"the gradient must be a finite matrix (inputs, outputs), got shape {tuple(gradient.shape)}")
    left, values, _ = torch.linalg.svd(gradient.double(), full_matrices=False)
    if not bool(values[0] > 0):
        raise ConfigError("the gradient is zero: no token reached this layer")
    rank = min(int((values > LEAST_SINGULAR * values[0]).sum()), tokens)
    return Subspace(left[:, :rank].T.contiguous(), len(gradient))
