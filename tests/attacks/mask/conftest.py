from __future__ import annotations

import numpy as np
import pytest

from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows


@pytest.fixture(scope="session")
def blobs() -> Rows:
    """120 rows of 4 classes that can be learned, 8 features."""
    generator = Seeds(31).at("blobs").generator()
    labels = generator.integers(0, 4, 120)
    features = 2 * generator.normal(size=(4, 8))[labels] + 0.5 * generator.normal(size=(120, 8))
    return Rows(features.astype(np.float32), labels, tuple(f"r{i}" for i in range(120)), 4, "blobs")


@pytest.fixture(scope="session")
def digits() -> Rows:
    """500 digits as images (1, 8, 8) in [0, 1]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[:500, None] / 16).astype(np.float32)
    return Rows(images, bunch.target[:500].astype(np.int64), tuple(map(str, range(500))), 10, "digits")
