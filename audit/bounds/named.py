"""A bound by name from loose counts, as `leakgauge bound` has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ..errors import ConfigError
from ..registry import BOUNDS, nearest
from ..types import Bound, Selection

_OPTIONS = {"correct": "--guesses-file", "inside": "--inside-file", "outside": "--outside-file"}
"""Counts that are whole sequences, which the command line reads from a file."""


def certify_named(
    method: str,
    counts: Mapping[str, object],
    *,
    delta: float,
    confidence: float,
    selection: Selection = Selection(),  # noqa: B008
    alpha_share: float = 1.0,
    **parameters: object,
) -> Bound:
    """The bound `method` from `counts` by field name; `parameters` are the method's own (`family`, ...).

    A count or parameter that is None counts as not given. Raises `ConfigError` naming the option for anything
    unknown, missing or superfluous.
    """
    method_type = BOUNDS.load(method)
    given = {name.replace("-", "_"): value for name, value in counts.items() if value is not None}
    _check_names(method, given, method_type.counts_type)
    chosen = {name: value for name, value in parameters.items() if value is not None}
    _refuse_unknown(method, chosen, [field.name for field in fields(method_type)], "parameter")
    bound: Bound = method_type(**chosen).certify(
        method_type.counts_type(**given),
        delta=delta,
        confidence=confidence,
        selection=selection,
        alpha_share=alpha_share,
    )
    return bound


def _check_names(method: str, given: Mapping[str, object], counts_type: type) -> None:
    assert is_dataclass(counts_type)
    needed = [field.name for field in fields(counts_type)]
    missing = [_option(name, counts_type) for name in needed if name not in given]
    if missing:
        raise ConfigError(f"{method} needs {' and '.join(missing)}")
    _refuse_unknown(method, given, needed, "count")


def _refuse_unknown(method: str, given: Mapping[str, Any], known: list[str], what: str) -> None:
    for name in given:
        if name not in known:
            option = "--" + name.replace("_", "-")
            raise ConfigError(
                f"{method} takes no {what} {option}{nearest(option, ['--' + k.replace('_', '-') for k in known])}"
            )


def _option(name: str, counts_type: type) -> str:
    from .counts import GuessSequence, PairedOutputs

    if counts_type in (GuessSequence, PairedOutputs) and name in _OPTIONS:
        return _OPTIONS[name]
    return "--" + name.replace("_", "-")
