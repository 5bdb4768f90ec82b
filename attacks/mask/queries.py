"""Questions put to a released mask: its bits, and how they agree with a record's gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...audit.seeds import Seeds
from ...audit.types import Access, Rows, Trained
from .model import masked_model

NUMBERS = 1 << 23
"""Gradient numbers held at a time (32 MB in float32)."""


@dataclass(frozen=True, slots=True)
class MaskBits:
    """The mask itself, (d,) of 0 and 1: one answer about the whole model, none about records."""

    name: ClassVar[str] = "mask-bits"
    version: ClassVar[str] = "1"
    access: ClassVar[Access] = Access.WEIGHTS
    whole: ClassVar[bool] = True

    def ask(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:  # noqa: ARG002
        """float32 (d,). `IncompatibleError` for a model without a mask."""
        bits = masked_model(trained.model, f"query {self.name!r}").bits()
        out: NDArray[np.float32] = bits.cpu().numpy().astype(np.float32)
        return out


@dataclass(frozen=True, slots=True)
class MaskAgreement:
    """How far each bit lies on the side to which a record's gradient pushes it: minus the correlation of the mask, as
    -1 and 1, with the gradient of the record's loss in the multipliers, in units of its norm.

    Column 0: the gradient at the released mask; column 1: at the neutral one, where nothing has been learned.
    """

    name: ClassVar[str] = "mask-agreement"
    version: ClassVar[str] = "1"
    access: ClassVar[Access] = Access.WEIGHTS

    def ask(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:  # noqa: ARG002
        """float32 (records, 2). `IncompatibleError` for a model without a mask."""
        import torch

        model = masked_model(trained.model, f"query {self.name!r}")
        signs = 2 * model.bits().to(model.frozen.dtype) - 1
        tokens = np.issubdtype(rows.features.dtype, np.integer)
        features = torch.as_tensor(np.array(rows.features), dtype=torch.int64 if tokens else model.frozen.dtype)
        labels = torch.as_tensor(np.array(rows.labels), dtype=torch.int64)
        step = max(1, NUMBERS // len(signs))
        parts = [np.zeros((0, 2), np.float32)]
        for start in range(0, len(rows), step):
            here = features[start : start + step].to(device), labels[start : start + step].to(device)
            columns = [_agreement(model.multiplier_gradients(*here, neutral=at), signs) for at in (False, True)]
            parts.append(torch.stack(columns, dim=1).cpu().float().numpy())
        return np.concatenate(parts)


def _agreement(gradients: Any, signs: Any) -> Any:
    """-<sign, g> / |g|, (records,); 0 for a gradient that vanished."""
    return -(gradients @ signs) / gradients.norm(dim=1).clamp(min=1e-30)
