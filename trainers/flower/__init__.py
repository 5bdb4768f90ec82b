"""Flower (extra `flower`): our federated client and server as Flower apps, and a recorder for anybody's strategy.

Importing a module of this package needs flwr; `require_flower` says so in one line.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os

from ...audit.errors import PrerequisiteError


def require_flower(*, simulation: bool = False) -> None:
    """Raise `PrerequisiteError` without flwr (and Ray, for `simulation`).

    Switches Flower's telemetry and update check off and turns its log down. Call before the first import of flwr in a
    process: it reads its environment when it is imported.
    """
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    for package in ("flwr", *(("ray",) if simulation else ())):
        if importlib.util.find_spec(package) is None:
            raise PrerequisiteError(f"this needs the package {package!r}: pip install 'leakgauge[flower]'")
    # Flower sets its own level when it is imported, so it is imported first.
    importlib.import_module("flwr")
    logging.getLogger("flwr").setLevel(logging.ERROR)
