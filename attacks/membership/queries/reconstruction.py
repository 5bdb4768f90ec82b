"""How well an autoencoder restores each record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ....audit.errors import ConfigError, IncompatibleError
from ....audit.representation import Representation, reconstruction_errors
from ....audit.seeds import Seeds
from ....audit.types import Access, Rows, Trained


@dataclass(frozen=True, slots=True)
class ReconstructionErrors:
    """Half the summed squared error of each record, as it is (column 0) and averaged over `draws` copies to which
    Gaussian noise of standard deviation `noise` was added (column 1): a member's surroundings are pulled back to it.
    The noise is the same for every model. Without draws the columns are equal."""

    draws: int = 4
    noise: float = 0.2

    name: ClassVar[str] = "reconstruction-errors"
    version: ClassVar[str] = "1"
    access: ClassVar[Access] = Access.LOGITS

    def __post_init__(self) -> None:
        if self.draws < 0 or not self.noise >= 0:
            raise ConfigError(f"query {self.name!r}: draws and noise must be >= 0, got {self.draws} and {self.noise}")

    def ask(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:  # noqa: ARG002
        """float32 (records, 2). `IncompatibleError` for a model that restores no records."""
        model = trained.target
        if not isinstance(model, Representation):
            raise IncompatibleError(
                f"query {self.name!r} needs a model that restores records, such as trainer 'autoencoder' trains; "
                f"this one is a {type(model).__name__}"
            )
        plain = reconstruction_errors(model, rows.features)
        around = plain if not self.draws else np.zeros(len(rows))
        for draw in range(self.draws):
            drawn = seeds.at("noise", draw).generator().standard_normal(rows.features.shape, dtype=np.float32)
            restored = model.reconstruct(rows.features + np.float32(self.noise) * drawn)
            gaps = (restored - rows.features).reshape(len(rows), -1).astype(np.float64)
            around = around + (gaps**2).sum(axis=1) / 2 / self.draws
        return np.stack([plain, around], axis=1).astype(np.float32)
