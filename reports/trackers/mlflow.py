"""MLflow. The server is the one that MLflow's own settings name (`MLFLOW_TRACKING_URI`)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...audit.errors import PrerequisiteError

LONGEST_PARAMETER = 500


class MlflowTracker:
    """One MLflow run in the experiment named after the project."""

    def __init__(self) -> None:
        try:
            self._mlflow: Any = importlib.import_module("mlflow")
        except ImportError:
            raise PrerequisiteError("--track mlflow needs the package 'mlflow': pip install mlflow") from None

    def begin(self, project: str, name: str, settings: Mapping[str, str]) -> None:
        """Open a run; settings become parameters."""
        self._mlflow.set_experiment(project)
        self._mlflow.start_run(run_name=name)
        self._mlflow.log_params({key: value[:LONGEST_PARAMETER] for key, value in settings.items()})

    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        """Figures become metrics, files artefacts."""
        self._mlflow.log_metrics(dict(figures))
        for path in files:
            self._mlflow.log_artifact(str(path))
        self._mlflow.end_run()
