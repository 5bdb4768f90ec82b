"""What these attacks ask of a masked model: its bits, its frozen weights, and gradients in its mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from ...audit.errors import IncompatibleError


class Piece(Protocol):
    """One masked tensor: its name, its place in the flat mask, and its shape."""

    @property
    def name(self) -> str:
        """Of the weight."""

    @property
    def place(self) -> slice:
        """Where it lies in the flat mask."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""


@runtime_checkable
class MaskedModel(Protocol):
    """A frozen network under a mask of d elements; a module of our own mask trainers, or anybody's with these parts.

    `scores` (d,) are trained, `frozen` (d,) stands before the mask, `pieces` say which tensor lies where, and `place`
    whether they are "weights" or "outputs" of layers.
    """

    scores: Any
    frozen: Any
    pieces: Sequence[Piece]
    place: str

    def under(self, multipliers: Any, features: Any) -> Any:
        """Logits (records, classes) with `multipliers` (d,) in the mask's place."""

    def bits(self) -> Any:
        """The mask (d,), a bool tensor."""

    def present(self) -> Any:
        """(d,): the multipliers in use, those of a drawn mask included."""

    def expected(self) -> Any:
        """(d,): the mean multipliers of the next training step."""

    def slopes(self) -> Any:
        """(d,): gradient of a score over the gradient of its multiplier."""

    def multiplier_gradients(self, features: Any, labels: Any, *, neutral: bool = False) -> Any:
        """(records, d): each record's loss gradient in the multipliers, at the mask, or at `neutral` multipliers."""


def masked_model(model: Any, asker: str) -> MaskedModel:
    """`model`, or `IncompatibleError` where it has no mask."""
    if not isinstance(model, MaskedModel):
        raise IncompatibleError(
            f"{asker} needs a model with a mask, this one is a {type(model).__name__}: audit a supermask trainer"
        )
    return model
