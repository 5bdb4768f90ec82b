"""Data sets that know their records and write down who reads them for what."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from ...audit.seeds import Seeds


class Rows(Protocol):
    """Anything with items by number."""

    def __getitem__(self, index: int) -> Any:
        """One row."""


@dataclass
class ReadLog:
    """Records read, by the purpose at the time. Reads for training are the mechanism's own."""

    purpose: str = "training"
    records: dict[str, set[str]] = field(default_factory=dict)

    @contextlib.contextmanager
    def reading_for(self, purpose: str) -> Iterator[None]:
        """Whatever is read inside is for `purpose`."""
        before, self.purpose = self.purpose, purpose
        try:
            yield
        finally:
            self.purpose = before


class Table(Dataset[Any]):
    """`rows` and the record that each was made of; every access goes into `log`."""

    def __init__(self, rows: Rows, records: tuple[str, ...], log: ReadLog) -> None:
        self.rows, self.records, self.log = rows, records, log

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Any:
        self.log.records.setdefault(self.log.purpose, set()).add(self.records[index])
        return self.rows[index]

    def features(self) -> Tensor:
        """All features (rows, ...)."""
        return torch.stack([self[i][0] for i in range(len(self))])

    def labels(self) -> Tensor:
        """All labels (rows,)."""
        return torch.stack([torch.as_tensor(self[i][1]) for i in range(len(self))])


def random_rows(rows: int, width: int, *, seeds: Seeds) -> TensorDataset:
    """Gaussian features and fair labels."""
    generator = seeds.torch_generator()
    features = torch.randn(rows, width, generator=generator)
    return TensorDataset(features, torch.randint(0, 2, (rows,), generator=generator))


def random_table(name: str, rows: int, width: int, log: ReadLog, *, seeds: Seeds) -> Table:
    """A table of random rows whose records are called `name-0`, `name-1`, ..."""
    return Table(cast("Rows", random_rows(rows, width, seeds=seeds)), tuple(f"{name}-{i}" for i in range(rows)), log)
