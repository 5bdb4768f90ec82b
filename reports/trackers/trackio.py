"""Trackio, the local tracker of Hugging Face. It keeps no files, so the reports stay where they are."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...audit.errors import PrerequisiteError


class TrackioTracker:
    """One trackio run."""

    def __init__(self) -> None:
        try:
            self._trackio: Any = importlib.import_module("trackio")
        except ImportError:
            raise PrerequisiteError("--track trackio needs the package 'trackio': pip install trackio") from None

    def begin(self, project: str, name: str, settings: Mapping[str, str]) -> None:
        """Open a run; settings become its configuration."""
        self._trackio.init(project=project, name=name, config=dict(settings))

    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:  # noqa: ARG002
        """Figures become one logged step."""
        self._trackio.log(dict(figures))
        self._trackio.finish()
