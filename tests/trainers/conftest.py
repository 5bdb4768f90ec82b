from __future__ import annotations

import numpy as np
import pytest

from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Job, Rows


@pytest.fixture(scope="session")
def images() -> Rows:
    """60 small images of 4 classes that can be learned."""
    generator = Seeds(11).at("images").generator()
    labels = generator.integers(0, 4, 60)
    prototypes = generator.normal(size=(4, 2, 6, 6))
    features = (prototypes[labels] + generator.normal(size=(60, 2, 6, 6))).astype(np.float32)
    return Rows(features, labels, tuple(map(str, range(60))), 4, "images")


@pytest.fixture(scope="session")
def jobs() -> list[Job]:
    """Five models, each with its own half of the rows."""
    generator = Seeds(11).at("jobs").generator()
    return [Job(generator.random(60) < 0.5, Seeds(11).at("model", k)) for k in range(5)]
