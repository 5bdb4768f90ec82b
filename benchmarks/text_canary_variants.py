"""Ways to break DP fine-tuning that an audit with text canaries must catch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

REPEATED = "inserted often, claimed once"


@contextlib.contextmanager
def no_noise() -> Iterator[None]:
    """Every record is clipped, and the noise is forgotten."""
    with _private_steps(lambda optimizer: setattr(optimizer, "noise_multiplier", 0.0)):
        yield


@contextlib.contextmanager
def no_clipping() -> Iterator[None]:
    """The right noise on gradients that were never clipped: its deviation stays, the limit is gone."""
    beyond = 1e6

    def change(optimizer: Any) -> None:
        optimizer.noise_multiplier *= optimizer.max_grad_norm / beyond
        optimizer.max_grad_norm = beyond

    with _private_steps(change):
        yield


@contextlib.contextmanager
def repeated() -> Iterator[None]:
    """Training is right; the audit inserts each canary several times and holds the claim on one record against it."""
    yield


@contextlib.contextmanager
def _private_steps(change: Callable[[Any], None]) -> Iterator[None]:
    """Within the block `change` is done to the Opacus optimizer of every private step that is made."""
    from ..trainers.language import training

    kept = training.PrivateStep.__init__

    def changed(self: Any, *args: Any, **given: Any) -> None:
        kept(self, *args, **given)
        change(self._private)

    training.PrivateStep.__init__ = changed  # type: ignore[method-assign]
    try:
        yield
    finally:
        training.PrivateStep.__init__ = kept  # type: ignore[method-assign]


BROKEN: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "no noise": no_noise,
    "no clipping": no_clipping,
    REPEATED: repeated,
}
