"""What an experiment tracker has to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """Opens a run, then closes it with what was found."""

    def begin(self, project: str, name: str, settings: Mapping[str, str]) -> None:
        """Open a run called `name` in `project`, with what it was made from."""

    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        """Record the figures, attach the files where the tracker keeps files, and close the run."""
