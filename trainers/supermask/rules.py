"""From scores to masks: top-k, hard threshold, Bernoulli and sign, each with a straight-through gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ...audit.errors import ConfigError
from ...audit.registry import nearest

if TYPE_CHECKING:
    from torch import Tensor

RuleName = Literal["top-k", "threshold", "bernoulli", "sign"]
RULES: tuple[RuleName, ...] = ("top-k", "threshold", "bernoulli", "sign")
START = {"top-k": None, "threshold": 0.5, "bernoulli": 0.0, "sign": None}
"""Initial score of each rule; None draws small random ones, since equal scores would give no order and no sign."""
SPREAD = 0.1
"""Standard deviation of random initial scores."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How scores s (d,) become multipliers (d,) of the frozen weights, and which gradient passes through.

    `top-k`: 1 for the `keep` share of largest |s| in each layer, gradient to |s| (edge-popup, Ramanujan et al. 2020,
    arXiv 1911.13299). `threshold`: 1 where s > 0, gradient to s (Mallya et al. 2018, arXiv 1801.06519). `bernoulli`:
    1 where u < sigmoid(s), u uniform, gradient to sigmoid(s) (Zhou et al. 2019, arXiv 1905.01067). `sign`: -1 or 1 by
    the sign of s, gradient to s.
    """

    name: RuleName = "bernoulli"
    keep: float = 0.5

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise ConfigError(f"unknown mask rule {self.name!r}{nearest(self.name, list(RULES))}")
        if not 0 < self.keep <= 1:
            raise ConfigError(f"keep must lie in (0, 1], got {self.keep}")

    @property
    def samples(self) -> bool:
        """Whether training draws masks at random."""
        return self.name == "bernoulli"

    def multipliers(self, scores: Tensor, uniform: Tensor, layers: Sequence[slice]) -> Tensor:
        """Multipliers (d,) with their straight-through gradient. `uniform` (d,) matters to `bernoulli` only, where 1/2
        everywhere gives the thresholded mask. `layers` are the slices that `top-k` ranks within."""
        through = {"top-k": scores.abs, "bernoulli": scores.sigmoid}.get(self.name, lambda: scores)()
        hard = self.values(self.bits(scores.detach(), layers, uniform))
        return hard + (through - through.detach())

    def slopes(self, scores: Tensor) -> Tensor:
        """(d,): the derivative that `multipliers` lets through, sigmoid's, the sign's, or 1."""
        if self.name == "bernoulli":
            return scores.sigmoid() * (1 - scores.sigmoid())
        return scores.sign() if self.name == "top-k" else scores.new_ones(scores.shape)

    def bits(self, scores: Tensor, layers: Sequence[slice], uniform: Tensor | float = 0.5) -> Tensor:
        """The mask (d,) as float 0 or 1."""
        import torch

        if self.name == "bernoulli":
            return (uniform < scores.sigmoid()).to(scores.dtype)
        if self.name != "top-k":
            return (scores > 0).to(scores.dtype)
        parts = []
        for layer in layers:
            size = scores[layer].abs()
            kept = max(1, round(self.keep * size.shape[0]))
            parts.append(torch.zeros_like(size).scatter(0, size.topk(kept).indices, 1.0))
        return torch.cat(parts)

    def values(self, bits: Tensor) -> Tensor:
        """Multipliers of bits: themselves, or -1 and 1 for `sign`."""
        return 2 * bits - 1 if self.name == "sign" else bits

    def scores_of(self, bits: Tensor) -> Tensor:
        """The plainest scores that give exactly these bits: a mask without what led to it."""
        return bits if self.name == "top-k" else 2 * bits - 1


def start_scores(rule: Rule, count: int, initial: float | None, generator: object) -> Tensor:
    """Initial scores (count,): `initial` everywhere, or the rule's own start."""
    import torch

    start = START[rule.name] if initial is None else initial
    if start is not None:
        return torch.full((count,), float(start))
    assert isinstance(generator, torch.Generator)
    return SPREAD * torch.randn(count, generator=generator)
