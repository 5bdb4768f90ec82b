"""Which mechanisms a family-based bound may be used on."""

from __future__ import annotations

from typing import Any

from ..errors import IncompatibleError
from .method import BoundMethod


def refuse_outside_family(method: BoundMethod[Any], mechanism_name: str, asserted: bool) -> None:
    """Raises `IncompatibleError` when `method` rejects one family only and the mechanism is not known to be in it.

    `asserted` is the user's word that it is. Bounds with null class `approx-dp` hold for every mechanism.
    """
    if asserted or method.null_class == "approx-dp" or mechanism_name in _admitted(method.null_class):
        return
    raise IncompatibleError(
        f"{method.name} is a bound for {method.null_class} mechanisms only and would claim too much on "
        f"{mechanism_name!r}: use one-run, clopper-pearson or rank, or assert the family explicitly"
    )


def may_decide(method: BoundMethod[Any], mechanism_name: str, delta: float) -> bool:
    """Whether a verdict may rest on this bound for this mechanism: a frequentist or anytime bound, whose null class
    holds the mechanism exactly. Poisson DP-SGD is near, but not in, the Gaussian family."""
    if method.validity(delta) not in ("frequentist", "anytime"):
        return False
    if method.null_class == "approx-dp":
        return True
    return mechanism_name == ("gaussian" if method.null_class == "gdp" else "dp-sgd")


def _admitted(null_class: str) -> tuple[str, ...]:
    # DP-SGD under a Gaussian null is common practice and mildly conservative at moderate rates: shown, never deciding.
    return ("gaussian", "dp-sgd") if null_class == "gdp" else ("dp-sgd",)
