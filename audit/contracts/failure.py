"""How a broken contract is reported."""

from __future__ import annotations


class ContractError(AssertionError):
    """A plug-in does not keep its contract: says which promise, what was seen, and why it matters."""


def require(kept: bool, promise: str) -> None:
    """Raise `ContractError` with the promise unless it is kept."""
    if not kept:
        raise ContractError(promise)
