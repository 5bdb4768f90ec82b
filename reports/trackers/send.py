"""One audit to one tracker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...audit.errors import ConfigError
from ...audit.registry import nearest
from ..migrate import migrate
from ..schema import parse_audit
from .figures import figures_of, settings_of
from .mlflow import MlflowTracker
from .protocol import Tracker
from .trackio import TrackioTracker

TRACKERS: dict[str, Callable[[], Tracker]] = {"mlflow": MlflowTracker, "trackio": TrackioTracker}
PRIVATE_PARTS = ("audit.json", "private.json")


def track(audit: Mapping[str, Any], name: str, *, files: Sequence[Path] = ()) -> None:
    """Send `audit` to the tracker `name`, as a run of the project `leakgauge-<audit name>`.

    `files` are attached, except those that are not made for sharing. Raises `ConfigError` for an unknown tracker and
    `PrerequisiteError` for one that is not installed.
    """
    if name not in TRACKERS:
        raise ConfigError(f"--track {name!r} is unknown{nearest(name, list(TRACKERS))}")
    document = parse_audit(migrate(audit))
    tracker = TRACKERS[name]()
    run = f"{document.provenance.config_digest[:8]}-{document.provenance.seed}"
    tracker.begin(f"leakgauge-{document.name}", run, settings_of(document))
    tracker.finish(figures_of(document), [path for path in files if path.name not in PRIVATE_PARTS])
