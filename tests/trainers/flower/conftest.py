from __future__ import annotations

import importlib.util

import pytest


@pytest.fixture(scope="session", autouse=True)
def flower():
    """Flower with telemetry and logs off. Each module skips, with its reason, where flwr is absent."""
    if importlib.util.find_spec("flwr") is not None:
        from leakgauge.trainers.flower import require_flower

        require_flower()
