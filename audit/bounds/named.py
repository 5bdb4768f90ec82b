"""A bound by name from loose counts, as `leakgauge bound` has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..registry import BOUNDS, nearest
from ..types import Bound, Selection

_FILES = {"guesses_file": "correct", "inside_file": "inside", "outside_file": "outside"}
"""Options that name a file with one number a line, and the count they stand for."""


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
    """The bound `method` from `counts` by name, in either spelling (`true_positives`, `true-positives`).

    The method's own parameters (`family`, `sample_rate`, `steps`) may stand among the counts or by themselves, and a
    sequence may be given as a file (`guesses_file`, one 0 or 1 a line). None is the same as not given. Raises
    `ConfigError` naming the option for anything unknown, missing or superfluous.
    """
    method_type = BOUNDS.load(method)
    own = {field.name for field in fields(method_type)}
    needed = [field.name for field in fields(method_type.counts_type)]
    given = {name.replace("-", "_"): value for name, value in {**counts, **parameters}.items() if value is not None}
    outcome = _read_files({name: value for name, value in given.items() if name not in own}, needed)
    _check_names(method, outcome, needed, own)
    bound: Bound = method_type(**{name: given[name] for name in own & given.keys()}).certify(
        method_type.counts_type(**outcome),
        delta=delta,
        confidence=confidence,
        selection=selection,
        alpha_share=alpha_share,
    )
    return bound


def _read_files(given: Mapping[str, object], needed: list[str]) -> dict[str, object]:
    """`given` with each file option that a needed count has replaced by the file's numbers."""
    out: dict[str, object] = {}
    for name, value in given.items():
        if _FILES.get(name) in needed:
            out[_FILES[name]] = _numbers(Path(str(value)), _option(name))
        else:
            out[name] = value
    return out


def _numbers(path: Path, option: str) -> tuple[float, ...]:
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{option} {path}: cannot be read ({type(error).__name__}); expected one number a line"
        ) from None
    try:
        return tuple(float(line) for line in lines)
    except ValueError as error:
        raise ConfigError(f"{option} {path}: expected one number a line ({error})") from None


def _check_names(method: str, given: Mapping[str, Any], needed: list[str], own: set[str]) -> None:
    from_files = {count: option for option, count in _FILES.items()}
    sequences = needed[0] in from_files  # `correct` is a sequence for one-run-anytime and an integer for one-run
    spelled = {name: _option(from_files.get(name, name) if sequences else name) for name in needed}
    missing = [spelled[name] for name in needed if name not in given]
    if missing:
        raise ConfigError(f"{method} needs {' and '.join(missing)}")
    for name in given:
        if name not in needed:
            known = [*spelled.values(), *map(_option, sorted(own))]
            raise ConfigError(f"{method} takes no {_option(name)}{nearest(_option(name), known)}")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
