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
    """All 1797 digits as flat vectors in [0, 1]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    ids = tuple(f"d{i}" for i in range(len(bunch.target)))
    return Rows((bunch.data / 16).astype(np.float32), bunch.target.astype(np.int64), ids, 10, "digits")
