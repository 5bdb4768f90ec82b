"""A frozen network behind a trainable mask, as one torch module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.func import functional_call

from ...audit.errors import IncompatibleError
from ..targets import as_logits
from .frozen import Piece, frozen_digest
from .rules import Rule, start_scores

if TYPE_CHECKING:
    from torch import Tensor

Head = Literal["masked", "trained"]


class Masked(nn.Module):
    """`network` with each masked weight multiplied by its mask; trainable are `scores` (d,) and, with head "trained",
    the last maskable layer, whose weight is then not masked.

    `uniform` (d,) are the draws of a Bernoulli mask: 1/2 everywhere, the thresholded mask, unless a training step puts
    its own in their place. The network stays in evaluation mode: no dropout, fixed batch statistics.
    """

    scores: nn.Parameter
    frozen: nn.Parameter
    uniform: Tensor

    def __init__(
        self,
        network: nn.Module,
        pieces: list[Piece],
        rule: Rule,
        *,
        head: Head = "masked",
        initial: float | None = None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.free: tuple[str, ...] = ()
        weights = dict(network.named_parameters())
        if head == "trained":
            layer = pieces[-1].name.rpartition(".")[0]
            self.free = tuple(n for n in weights if n.rpartition(".")[0] == layer)
            pieces = pieces[:-1]
            if not pieces:
                raise IncompatibleError("head 'trained' leaves nothing to mask: the model has one maskable layer")
        self.pieces, self.rule = pieces, rule
        self.layers = [p.place for p in pieces]
        count = pieces[-1].place.stop
        self.scores = nn.Parameter(start_scores(rule, count, initial, generator))
        flat = torch.cat([weights[p.name].detach().ravel() for p in pieces])
        self.frozen = nn.Parameter(flat, requires_grad=False)
        self.register_buffer("uniform", torch.full((count,), 0.5), persistent=False)
        self.network = network.eval()
        for name in self.free:
            weights[name].requires_grad_(True)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (records, classes) of the network under the mask."""
        flat = self.frozen * self.rule.multipliers(self.scores, self.uniform, self.layers)
        weights = {p.name: flat[p.place].view(p.shape) for p in self.pieces}
        return as_logits(functional_call(self.network, weights, (features,)), len(features))

    def train(self, mode: bool = True) -> Masked:
        """Nothing changes: a mask has no modes, and the frozen network stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def bits(self) -> Tensor:
        """The mask (d,), bool."""
        return self.rule.bits(self.scores.detach(), self.layers).bool()

    def write_bits(self, bits: Tensor) -> None:
        """Take over a mask (d,), forgetting the scores."""
        with torch.no_grad():
            self.scores.copy_(self.rule.scores_of(bits.to(self.scores.device, self.scores.dtype)))

    def seal(self) -> Masked:
        """Keep the mask and forget the scores: what is released. Itself, in evaluation mode."""
        self.write_bits(self.bits())
        self.uniform.fill_(0.5)
        return self.eval()

    def digest(self) -> str:
        """The digest of the frozen weights, which a mask is worthless without."""
        return frozen_digest(self.network, self.free)


def trainable(module: Masked) -> dict[str, nn.Parameter]:
    """What training moves: the scores first, then the free head, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}
