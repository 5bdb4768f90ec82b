from __future__ import annotations

import importlib.util

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("flwr") else ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def flower():
    """Flower with telemetry and logs off; a session without it skips, and says why."""
    if importlib.util.find_spec("flwr") is None:
        pytest.skip("flwr is not installed: pip install 'leakgauge[flower]'")
    from leakgauge.trainers.flower import require_flower

    require_flower()
