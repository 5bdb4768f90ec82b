"""What the conductor asks of an executor: blocks of models trained, asked and left in a folder for it to store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError
from .registry import EXECUTORS
from .seeds import Seeds
from .types import Job, Progress, Rows, StackedTrainer, Trained, Trainer

BLOCK = 32
"""Models stacked in one block. A constant: how models are batched decides how their weights round, so it may depend on
no machine and no number of workers. Stacks of 32 cost 1 to 5 % more a model than stacks of 64 and share out better."""


class Question(Protocol):
    """What is put to a trained model. Its name and version are part of the key of the stored answers."""

    @property
    def name(self) -> str:
        """Lower-case words joined by underscores."""

    @property
    def version(self) -> str:
        """Raised when the same model would give other answers, and different for every setting of the question."""

    def __call__(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:
        """One answer a row, (records, ...) float32. `seeds` are the same for every model of an audit."""


@dataclass(frozen=True, slots=True)
class LogProbabilities:
    """Natural-log class probabilities (records, classes): what most attacks read."""

    name: ClassVar[str] = "log_probabilities"
    version: ClassVar[str] = "1"

    def __call__(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:  # noqa: ARG002
        """As in `Question`; draws nothing from `seeds`."""
        return np.asarray(trained.target.log_probabilities(rows.features), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Work:
    """What all blocks share: the trainer, the rows it may train on, the rows asked about, the questions, the device."""

    trainer: Trainer
    universe: Rows
    queried: Rows
    questions: tuple[Question, ...]
    device: str


@dataclass(frozen=True, slots=True)
class Block:
    """Models trained together, in this order, and the folder in which interrupted training leaves its state.

    With `stored`, one folder of a saved model for each job, nothing is trained: the models are loaded and asked.
    """

    jobs: tuple[Job, ...]
    checkpoint: Path
    stored: tuple[Path, ...] = ()

    @property
    def trained(self) -> Path:
        """Where the executor leaves everything that is to be stored."""
        return self.checkpoint / "trained"

    def model(self, position: int) -> Path:
        """What the trainer saved of the model at `position`."""
        return self.trained / str(position) / "model"

    def answers(self, position: int, question: int) -> Path:
        """That model's answers to the question of this number: an npy file."""
        return self.trained / str(position) / f"answers-{question}.npy"


class Executor(Protocol):
    """Where models train: this process, the cores of this machine, a cluster."""

    name: ClassVar[str]

    def run(self, work: Work, blocks: Sequence[Block], *, finished: Callable[[int], None], progress: Progress) -> None:
        """Train every block. `finished` is called with a block's position once its models and answers are in place,
        one call at a time, in any order. What a block gives depends on the block alone, never on where or beside what
        it ran. The first error in the order of the blocks is raised, after those before it have finished."""


def executor_named(name: str, say: Callable[[str], None]) -> Executor:
    """The executor of the option `--executor`; `say` takes lines that a person should read while it works."""
    if name not in EXECUTORS.names() and ":" not in name:
        raise ConfigError(f"--executor {name!r} is unknown; choose from {', '.join(EXECUTORS.names())}")
    executor: Executor = EXECUTORS.load(name)(say=say)
    return executor


@contextlib.contextmanager
def one_thread(device: str) -> Iterator[None]:
    """On the CPU, arithmetic by one thread: more would split sums elsewhere, and results would depend on the machine's
    number of cores."""
    if device != "cpu":
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def block_size(trainer: Any) -> int:
    """How many models of this trainer make a block: 1 where it cannot stack, so that each is stored when it is done."""
    return BLOCK if isinstance(trainer, StackedTrainer) else 1
