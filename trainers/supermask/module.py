"""A frozen network behind a trainable mask, as one torch module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.func import functional_call

from ...audit.errors import IncompatibleError
from ..targets import as_logits
from .frozen import Piece, frozen_digest, maskable
from .outputs import Place, scaled_outputs
from .rules import Rule, start_scores

if TYPE_CHECKING:
    from torch import Tensor

Head = Literal["masked", "trained"]


class Masked(nn.Module):
    """`network` with each masked weight multiplied by its mask; trainable are `scores` (d,) and, with head "trained",
    the last maskable layer, whose weight is then not masked.

    `place` "outputs" multiplies what layers put out instead, never the logits; `pieces` are then layers
    (`outputs.output_pieces`), and `frozen` (d,), which stands before the multipliers, is 1 everywhere.
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
        place: Place = "weights",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.place: Place = place
        self.free: tuple[str, ...] = ()
        weights = dict(network.named_parameters())
        last = pieces[-1].name if place == "outputs" else pieces[-1].name.rpartition(".")[0]
        if head == "trained":
            self.free = tuple(n for n in weights if n.rpartition(".")[0] == last)
        if head == "trained" or (place == "outputs" and last == maskable(network)[-1].name.rpartition(".")[0]):
            pieces = pieces[:-1]
        if not pieces:
            raise IncompatibleError(
                f"head {head!r} with place {place!r} leaves nothing to mask: the model has one maskable layer"
            )
        self.pieces, self.rule = pieces, rule
        self.layers = [p.place for p in pieces]
        count = pieces[-1].place.stop
        self.scores = nn.Parameter(start_scores(rule, count, initial, generator))
        if place == "weights":
            flat = torch.cat([weights[p.name].detach().ravel() for p in pieces])
        else:
            flat = torch.ones(count)
        self.frozen = nn.Parameter(flat, requires_grad=False)
        self.register_buffer("uniform", torch.full((count,), 0.5), persistent=False)
        self.network = network.eval()
        for name in self.free:
            weights[name].requires_grad_(True)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (records, classes) of the network under the mask."""
        return self.under(self.rule.multipliers(self.scores, self.uniform, self.layers), features)

    def under(self, multipliers: Tensor, features: Tensor) -> Tensor:
        """Logits (records, classes) with any `multipliers` (d,) in the mask's place."""
        flat = self.frozen * multipliers
        parts = {p.name: flat[p.place].view(p.shape) for p in self.pieces}
        if self.place == "weights":
            return as_logits(functional_call(self.network, parts, (features,)), len(features))
        with scaled_outputs(self.network, parts):
            return as_logits(self.network(features), len(features))

    def present(self) -> Tensor:
        """(d,): the multipliers that `forward` uses now, drawn ones where `uniform` holds draws."""
        return self.rule.multipliers(self.scores.detach(), self.uniform, self.layers)

    def expected(self) -> Tensor:
        """(d,): the mean multipliers of training steps to come: chances for `bernoulli`, else the mask itself."""
        return self.scores.detach().sigmoid() if self.rule.samples else self.present()

    def slopes(self) -> Tensor:
        """(d,): what the straight-through gradient of a multiplier is multiplied by to become that of its score."""
        return self.rule.slopes(self.scores.detach())

    def multiplier_gradients(self, features: Tensor, labels: Tensor, *, neutral: bool = False) -> Tensor:
        """(records, d): each record's gradient of its cross-entropy in the mask's multipliers, at the mask, or with
        `neutral` at multipliers of 1/2 (1 for `sign`), where no mask has been learned. The scores do not matter."""
        from torch.func import grad, vmap
        from torch.nn.functional import cross_entropy

        values = self.rule.values(self.rule.bits(self.scores.detach(), self.layers))
        if neutral:
            values = torch.full_like(values, 1.0 if self.rule.name == "sign" else 0.5)

        def loss(multipliers: Tensor, record: Tensor, label: Tensor) -> Tensor:
            return cross_entropy(self.under(multipliers, record[None]), label[None])

        gradients: Tensor = vmap(grad(loss), in_dims=(None, 0, 0))(values, features, labels)
        return gradients.detach()

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
