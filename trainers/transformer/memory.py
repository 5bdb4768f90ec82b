"""What frozen layers make of a row of tokens, kept: nothing moves them, so that every model and epoch gets the same."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class StateMemory:
    """States (tokens, width) of rows of tokens, at most `limit` bytes of them, those used last."""

    limit: int
    held: OrderedDict[bytes, Tensor] = field(default_factory=OrderedDict)
    used: int = 0
    found: int = 0
    _seen: tuple[tuple[Tensor, int], ...] = ()
    _content: bytes = b""
    _lock: Lock = field(default_factory=Lock)

    def states(
        self, frozen: Sequence[Tensor], tokens: Tensor, make: Callable[[Tensor], Sequence[Tensor]]
    ) -> list[Tensor]:
        """States of each row of `tokens` (records, length): what `make` once gave for it under the same content of the
        weights `frozen`. `make` is called with the rows that are not held, and without gradients."""
        with self._lock:
            return self._states(frozen, tokens, make)

    def _states(
        self, frozen: Sequence[Tensor], tokens: Tensor, make: Callable[[Tensor], Sequence[Tensor]]
    ) -> list[Tensor]:
        import torch

        digest = self._digest(frozen)
        keys = [digest + row.tobytes() for row in tokens.cpu().numpy()]
        fresh = {key: place for place, key in enumerate(keys) if key not in self.held}
        self.found += len(keys) - len(fresh)
        out = {key: self.held[key] for key in keys if key not in fresh}
        if fresh:
            # Tensors made in inference mode could not take part in training later.
            with torch.inference_mode(False), torch.no_grad():
                made = make(tokens[list(fresh.values())].clone())
            out |= dict(zip(fresh, made, strict=True))
        for key in dict.fromkeys(keys):
            self._keep(key, out[key])
        return [out[key] for key in keys]

    def _keep(self, key: bytes, states: Tensor) -> None:
        if key in self.held:
            self.held.move_to_end(key)
            return
        self.held[key] = states.clone()
        self.used += states.nbytes
        while self.used > self.limit:
            self.used -= self.held.popitem(last=False)[1].nbytes

    def _digest(self, frozen: Sequence[Tensor]) -> bytes:
        """Of the bytes of the weights; computed again where a weight is another or was written to."""
        known = len(frozen) == len(self._seen) and all(
            weight is seen and weight._version == version
            for weight, (seen, version) in zip(frozen, self._seen, strict=True)
        )
        if not known:
            digest = hashlib.sha256()
            for weight in frozen:
                digest.update(f"{weight.device}{weight.dtype}{tuple(weight.shape)}".encode())
                digest.update(weight.detach().cpu().numpy().tobytes())
            self._seen = tuple((weight, weight._version) for weight in frozen)
            self._content = digest.digest()
        return self._content


LIMIT = 256 << 20
"""Bytes kept by a process that asks for nothing else: about 15000 sentences of a width of 384."""
_ACTIVE: ContextVar[StateMemory] = ContextVar("leakgauge_state_memory", default=StateMemory(LIMIT))  # noqa: B039


@contextmanager
def remembering(limit: int) -> Iterator[StateMemory]:
    """Within the block transformer classifiers keep what their frozen layers make of each row of tokens, up to `limit`
    bytes in all and apart from what else the process keeps. A row's states follow from its tokens and the content of
    the weights, bit for bit, whatever was asked before."""
    memory = StateMemory(limit)
    token = _ACTIVE.set(memory)
    try:
        yield memory
    finally:
        _ACTIVE.reset(token)


def memory_for(frozen: Sequence[Tensor]) -> StateMemory | None:
    """The memory in force, where nothing trains the weights `frozen`."""
    return None if any(weight.requires_grad for weight in frozen) else _ACTIVE.get()
