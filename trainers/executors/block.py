"""One block of models trained, saved and asked, the same way wherever it runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import StaleArtifactError
from ...audit.execution import Block, Work, one_thread
from ...audit.seeds import Seeds
from ...audit.types import Progress, Rows, StackedTrainer, Trained

ALIGNMENT = 64
"""Bytes. Kernels may round by where their arrays lie, and arrays that came from another process lie anywhere."""


def run_block(work: Work, block: Block, *, progress: Progress, say: Callable[[str], None]) -> None:
    """Train the block's models, or load them where it names stored ones, and leave what was saved and answered in its
    folder. A checkpoint that another version of the trainer wrote is discarded."""
    block.checkpoint.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(block.trained, ignore_errors=True)
    with one_thread(work.device):
        for position, trained in enumerate(_models(work, block, progress, say)):
            folder = block.model(position)
            folder.mkdir(parents=True)
            if not block.stored:
                work.trainer.save(trained, folder)
            _ask(work, block, position, trained)


def aligned(work: Work) -> Work:
    """The same work with features that start on a cache line, copied where they do not."""
    return replace(work, universe=_aligned_rows(work.universe), queried=_aligned_rows(work.queried))


def _models(work: Work, block: Block, progress: Progress, say: Callable[[str], None]) -> Iterator[Trained]:
    if block.stored:
        for position, folder in enumerate(block.stored):
            yield work.trainer.load(folder, work.universe, device=work.device)
            progress(position + 1, len(block.stored))
        return
    try:
        models = _fit(work, block, progress)
    except StaleArtifactError:
        # Begun by another version of the trainer: of no use to this one, and nothing else is lost with it.
        say("  a checkpoint of another version is discarded")
        shutil.rmtree(block.checkpoint)
        block.checkpoint.mkdir()
        models = _fit(work, block, progress)
    yield from models


def _fit(work: Work, block: Block, progress: Progress) -> list[Trained]:
    trainer, data, device = work.trainer, work.universe, work.device
    if isinstance(trainer, StackedTrainer) and len(block.jobs) > 1:
        return trainer.fit_many(data, block.jobs, device=device, checkpoint=block.checkpoint, progress=progress)
    models = []
    for position, job in enumerate(block.jobs):
        folder = block.checkpoint / str(position)
        folder.mkdir(exist_ok=True)
        models.append(trainer.fit(data, job.inside, seeds=job.seeds, device=device, checkpoint=folder))
        progress(position + 1, len(block.jobs))
    return models


def _ask(work: Work, block: Block, position: int, trained: Trained) -> None:
    root = Seeds(block.jobs[position].seeds.root).at("query")
    for number, question in enumerate(work.questions):
        # Every model of an audit hears a question with the same seeds: the same augmentations of a record.
        answers = question(trained, work.queried, seeds=root.at(question.name), device=work.device)
        np.save(block.answers(position, number), np.ascontiguousarray(answers, np.float32), allow_pickle=False)


def _aligned_rows(rows: Rows) -> Rows:
    return replace(rows, features=_aligned(rows.features))


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    if array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0:
        return array
    memory = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
