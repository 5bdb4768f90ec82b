"""A named tree of independent random streams: the only source of randomness in LeakGauge."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Seeds:
    """A node in the tree: `root` is the audit's seed, `path` the names that lead here.

    `seeds.at("shadow", 7, "noise")` is the same stream whatever was drawn before it, so adding a model or an
    attack changes no other stream. Two calls of `generator()` on one node start at the same place.

    >>> Seeds(1).at("shadow", 7) == Seeds(1).at("shadow").at(7)
    True
    >>> bool(Seeds(1).at("a").generator().random() == Seeds(1).at("b").generator().random())
    False
    """

    root: int
    path: tuple[str | int, ...] = ()

    def at(self, *names: str | int) -> Seeds:
        """The stream below this one named by `names`."""
        return Seeds(self.root, self.path + names)

    def entropy(self) -> int:
        """128 bits that depend on the root and the whole path, and on nothing else."""
        # repr keeps 7 and "7" apart; the unit separator cannot occur in a repr of int or printable str.
        text = "\x1f".join([repr(self.root), *map(repr, self.path)])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")

    def generator(self) -> np.random.Generator:
        """A fresh numpy generator at the start of this stream."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.entropy())))

    def integer(self) -> int:
        """A 63-bit integer for libraries that take only an integer seed."""
        return self.entropy() & (2**63 - 1)

    def torch_generator(self, device: str | torch.device = "cpu") -> torch.Generator:
        """A fresh torch generator at the start of this stream."""
        import torch

        return torch.Generator(device=device).manual_seed(self.integer())

    @contextlib.contextmanager
    def numpy_scope(self) -> Iterator[None]:
        """Within the block numpy's process-wide generator, from which some libraries draw, follows this stream; after
        it it is as before."""
        before = np.random.get_state(legacy=False)  # noqa: NPY002 - other libraries' generator, put back afterwards
        np.random.seed(self.entropy() & (2**32 - 1))  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002

    @contextlib.contextmanager
    def torch_scope(self) -> Iterator[None]:
        """Within the block torch's global generators follow this stream (weight initialisation, dropout); after
        it they are as before."""
        import torch

        devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=devices):
            # Not torch.manual_seed: it formats a stack trace for each kind of device that is absent, 0.6 ms in all.
            torch.default_generator.manual_seed(self.integer())
            if devices:
                torch.cuda.manual_seed_all(self.integer())
            yield
