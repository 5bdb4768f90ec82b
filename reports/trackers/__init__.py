"""Sends an audit's figures to an experiment tracker. A tracker is two methods; two adapters come with it."""

from __future__ import annotations

from .figures import figures_of, settings_of
from .mlflow import MlflowTracker
from .protocol import Tracker
from .send import TRACKERS, track
from .trackio import TrackioTracker

__all__ = ["TRACKERS", "MlflowTracker", "Tracker", "TrackioTracker", "figures_of", "settings_of", "track"]
