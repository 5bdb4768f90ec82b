from __future__ import annotations

import numpy as np
import pytest

from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows


@pytest.fixture(scope="session")
def blobs() -> Rows:
    """240 rows of 5 classes that can be learned, 12 users, 8 features."""
    generator = Seeds(21).at("blobs").generator()
    labels = generator.integers(0, 5, 240)
    features = generator.normal(size=(5, 8))[labels] + 0.5 * generator.normal(size=(240, 8))
    groups = tuple(f"user-{i:02d}" for i in generator.integers(0, 12, 240))
    return Rows(features.astype(np.float32), labels, tuple(f"r{i}" for i in range(240)), 5, "blobs", groups)
