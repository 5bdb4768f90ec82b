from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest


def _load() -> Any:
    spec = importlib.util.spec_from_file_location(
        "leakgauge_comparison_documents", Path(__file__).with_name("documents.py")
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make() -> Any:
    """The module `documents.py`."""
    return _load()


@pytest.fixture
def baseline(make: Any) -> Any:
    """Five seeds of one finding."""
    from leakgauge.audit.comparison import build_baseline

    return build_baseline([make.document(seed) for seed in range(1, 6)])
