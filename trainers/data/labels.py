"""Labels as read to class indices. The set of classes counts as public; give `classes` where it is not in the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.registry import nearest

FEW_CLASSES = 10


@dataclass(frozen=True, slots=True)
class Labels:
    """`indices` int64 (records,) into `classes`, -1 where the label is missing."""

    indices: NDArray[np.int64]
    classes: tuple[str, ...]


def class_labels(
    raw: NDArray[Any], records: Sequence[str], classes: tuple[str, ...] = (), what: str = "label"
) -> Labels:
    """Class indices of `raw` (records,), which holds integers, booleans, strings, or floats with whole values.

    Without `classes` the names are those found, whole numbers in numerical order, others in alphabetical order. A
    label that is not among `classes`, or a target that is no class but a measurement, is a `ConfigError`.
    """
    codes, names = _distinct(raw, records, what)
    if classes:
        return Labels(_match(codes, names, records, classes, what), classes)
    if len(names) > max(FEW_CLASSES, len(raw) // 2):
        raise ConfigError(
            f"{what}: {len(names)} distinct values in {len(raw)} rows is no class label (first {names[0]!r}); "
            "choose another data.target"
        )
    found = ordered_classes(names)
    return Labels(_match(codes, names, records, found, what), found)


def ordered_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in their natural order: whole numbers by value, then the others by alphabet."""
    return tuple(sorted(names, key=_sort_key))


def _distinct(raw: NDArray[Any], records: Sequence[str], what: str) -> tuple[NDArray[np.int64], list[str]]:
    """Codes (-1: missing) into the list of distinct names."""
    import pandas

    values = raw
    if raw.dtype.kind == "f":
        broken = np.flatnonzero(np.isinf(raw) | (~np.isnan(raw) & (raw != np.round(raw))))
        if len(broken):
            raise ConfigError(
                f"{what} {raw[broken[0]]} of record {records[broken[0]]} is no class: labels are whole numbers"
            )
        values = raw.astype(object)
        values[np.isnan(raw)] = None
    codes, found = pandas.factorize(values, use_na_sentinel=True)
    names = [str(int(v)) if isinstance(v, float | np.floating) else str(v) for v in found]
    return codes.astype(np.int64), names


def _match(
    codes: NDArray[np.int64], names: list[str], records: Sequence[str], classes: tuple[str, ...], what: str
) -> NDArray[np.int64]:
    place = {name: i for i, name in enumerate(classes)}
    for code, name in enumerate(names):
        if name not in place:
            record = records[int(np.flatnonzero(codes == code)[0])]
            raise ConfigError(
                f"{what} {name!r} of record {record} is not in data.classes{nearest(name, list(classes))}"
            )
    table = np.array([*(place[name] for name in names), -1], np.int64)
    return table[codes]


def _sort_key(name: str) -> tuple[int, float, str]:
    try:
        return (0, int(name), name)
    except ValueError:
        return (1, 0, name)
