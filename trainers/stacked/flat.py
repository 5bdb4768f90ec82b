"""Stacked tensors side by side in one piece of memory, so that an elementwise update of all of them is one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Flat:
    """`parts`, each (models, ...) and contiguous, are views of `memory` (numbers of all parts), one after another."""

    memory: Tensor
    parts: list[Tensor]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Flat:
        """A copy of `tensors`."""
        import torch

        memory = torch.cat([t.reshape(-1) for t in tensors])
        pieces = torch.split(memory, [t.numel() for t in tensors])
        return cls(memory, [piece.view(t.shape) for piece, t in zip(pieces, tensors, strict=True)])

    def zeros(self) -> Flat:
        """Zeros of the same shapes."""
        import torch

        return Flat.of([torch.zeros_like(part) for part in self.parts])

    def keep(self, models: Tensor) -> Flat:
        """The models at these positions only."""
        return Flat.of([part[models] for part in self.parts])

    def rows(self) -> list[list[Tensor]]:
        """`rows[model][part]`, contiguous views."""
        return [list(row) for row in zip(*(part.unbind(0) for part in self.parts), strict=True)]
