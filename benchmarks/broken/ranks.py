"""Several workers that sample by Opacus's own distributed sampler, each with a generator of its own or with one seed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from ...audit.seeds import Seeds

WORKERS, ROWS, RATE = 4, 400, 0.1


@dataclass(frozen=True, slots=True)
class Ranks:
    """`shared_seed`: the training script seeds every process alike, as is done for the weights."""

    shared_seed: bool = False
    workers: int = WORKERS
    rows: int = ROWS
    rate: float = RATE
    steps: int = 1000

    @contextlib.contextmanager
    def samplers(self, *, seeds: Seeds) -> Iterator[list[Any]]:
        """One `DistributedUniformWithReplacementSampler` a worker, as each process would build it."""
        from opacus.utils.uniform_sampler import DistributedUniformWithReplacementSampler

        built = []
        for rank in range(self.workers):
            with (
                mock.patch("torch.distributed.get_world_size", return_value=self.workers),
                mock.patch("torch.distributed.get_rank", return_value=rank),
            ):
                # shuffle=False: `sampling_streams` compares positions; the shuffle's seed is public anyway.
                built.append(
                    DistributedUniformWithReplacementSampler(
                        total_size=self.rows,
                        sample_rate=self.rate,
                        shuffle=False,
                        steps=self.steps,
                        generator=seeds.at(0 if self.shared_seed else rank).torch_generator(),
                    )
                )
        yield built
