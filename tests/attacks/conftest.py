from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from leakgauge.audit.types import Evidence

MakeEvidence = Callable[..., Evidence]


def two_class(phi: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities (..., 2) whose logit for label 1 is `phi` (...)."""
    return np.stack([-np.logaddexp(0, phi), -np.logaddexp(0, -phi)], axis=-1)


@pytest.fixture
def evidence_from_logits() -> MakeEvidence:
    """Evidence of a two-class model, label 1 everywhere, with the given logits of it."""

    def make(
        target: NDArray[np.float64],
        shadows: NDArray[np.float64],
        inside: NDArray[np.bool_],
        population_target: NDArray[np.float64] | None = None,
        population_shadows: NDArray[np.float64] | None = None,
    ) -> Evidence:
        zt = np.zeros(0) if population_target is None else population_target
        zs = np.zeros((len(shadows), 0)) if population_shadows is None else population_shadows
        return Evidence(
            labels=np.ones(len(target), dtype=np.int64),
            records=tuple(f"r{i}" for i in range(len(target))),
            target=two_class(target),
            shadows=two_class(shadows),
            shadow_inside=inside,
            population_labels=np.ones(len(zt), dtype=np.int64),
            population_target=two_class(zt),
            population_shadows=two_class(zs),
        )

    return make


@pytest.fixture
def paired() -> Callable[[np.random.Generator, int, int], NDArray[np.bool_]]:
    """Membership (shadows, records) of complementary pairs, each pair by fair coins."""

    def draw(generator: np.random.Generator, shadows: int, records: int) -> NDArray[np.bool_]:
        half = generator.random((shadows // 2, records)) < 0.5
        inside = np.empty((shadows, records), dtype=np.bool_)
        inside[0::2], inside[1::2] = half, ~half
        return inside

    return draw
