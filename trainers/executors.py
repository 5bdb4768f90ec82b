"""Where jobs run. `LocalExecutor`: this process, stacked where the trainer can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..audit.types import Job, Progress, Rows, StackedTrainer, Trained, Trainer, silent


@dataclass(frozen=True, slots=True)
class LocalExecutor:
    """Trains every job on one device of this machine."""

    device: str

    def train(
        self,
        trainer: Trainer,
        data: Rows,
        jobs: Sequence[Job],
        *,
        checkpoint: Path | None = None,
        progress: Progress = silent,
    ) -> list[Trained]:
        """One model per job, in order. Interrupted training resumes from `checkpoint`, a folder that the caller removes
        once the models are stored. `progress` counts steps for a stack, models otherwise."""
        if isinstance(trainer, StackedTrainer) and len(jobs) > 1:
            return trainer.fit_many(data, jobs, device=self.device, checkpoint=checkpoint, progress=progress)
        trained = []
        for number, job in enumerate(jobs):
            folder = None if checkpoint is None else checkpoint / str(number)
            trained.append(trainer.fit(data, job.inside, seeds=job.seeds, device=self.device, checkpoint=folder))
            progress(number + 1, len(jobs))
        return trained
