"""One attribute of an encoded table: which columns hold it, what values it takes, and records with another value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.registry import nearest
from ...audit.types import BoolArray, Rows


@dataclass(frozen=True, slots=True)
class Attribute:
    """`positions` (columns,) hold the attribute; candidate k is written as `codes[k]` (columns,), called `values[k]`.

    A number with many values is cut into bins: `edges` (bins - 1,) between them, and the code is the bin's median.
    """

    name: str
    positions: NDArray[np.intp]
    codes: NDArray[np.float32]
    values: tuple[str, ...]
    edges: NDArray[np.float64] | None = None

    def of(self, features: NDArray[Any]) -> NDArray[np.int64]:
        """Which candidate each record has, int64 (records,); -1 for a value that is none of them, such as missing."""
        own = features[:, self.positions]
        if self.edges is not None:
            return np.searchsorted(self.edges, own[:, 0], side="right").astype(np.int64)
        same: BoolArray = np.all(np.abs(own[:, None] - self.codes) < 1e-6, axis=2)
        return np.where(same.any(axis=1), same.argmax(axis=1), -1).astype(np.int64)

    def written(self, features: NDArray[Any], candidate: int) -> NDArray[Any]:
        """A copy of `features` (records, columns) in which every record has this candidate."""
        out = features.copy()
        out[:, self.positions] = self.codes[candidate]
        return out

    def without(self, features: NDArray[Any]) -> NDArray[Any]:
        """`features` without the attribute's columns."""
        return np.delete(features, self.positions, axis=1)


def find_attribute(population: Rows, name: str, bins: int) -> Attribute:
    """The attribute called `name` in the public rows, whose values are the candidates.

    `name` is a column of the table before encoding (`sex`), or, where columns have no names, a position (`3`). A
    category's candidates are those that occur in the population; a number's are its values there, or `bins` bins of
    equal population where there are more values than bins. `ConfigError` for an unknown column, `IncompatibleError` for
    what is no table or has a single value.
    """
    if population.features.ndim != 2 or not np.issubdtype(population.features.dtype, np.floating):
        raise IncompatibleError(
            f"attributes are columns of tables; {population.name!r} has records of shape "
            f"{population.features.shape[1:]} and type {population.features.dtype}"
        )
    positions = _positions(population, name)
    own = population.features[:, positions]
    if len(positions) > 1:
        found = _categories(population, name, positions)
    else:
        seen = np.unique(own[:, 0])
        shown = tuple(f"{v:g}" for v in seen)
        codes = seen[:, None].astype(np.float32)
        found = Attribute(name, positions, codes, shown) if len(seen) <= bins else _binned(name, positions, own, bins)
    if len(found.values) < 2:
        raise IncompatibleError(f"attribute {name!r} has a single value in the population: there is nothing to infer")
    return found


def _positions(population: Rows, name: str) -> NDArray[np.intp]:
    columns, width = population.columns, population.features.shape[1]
    if name in columns:
        return np.array([columns.index(name)])
    for mark in ("=", "#"):
        group = [i for i, column in enumerate(columns) if column.startswith(name + mark)]
        if group:
            return np.array(group)
    if name.isdigit() and int(name) < width:
        return np.array([int(name)])
    known = sorted({column.partition("=")[0].partition("#")[0] for column in columns})
    hint = nearest(name, known) if known else f"; columns have no names here: give a position in 0..{width - 1}"
    raise ConfigError(f"attribute: no column {name!r}{hint}")


def _categories(population: Rows, name: str, positions: NDArray[np.intp]) -> Attribute:
    """One-hot columns; all of them 0 is an unknown category, and no candidate."""
    occurs = population.features[:, positions].max(axis=0) > 0.5
    codes = np.eye(len(positions), dtype=np.float32)[occurs]
    shown = tuple(population.columns[p][len(name) + 1 :] for p in positions[occurs])
    return Attribute(name, positions, codes, shown)


def _binned(name: str, positions: NDArray[np.intp], own: NDArray[Any], bins: int) -> Attribute:
    values = own[:, 0].astype(np.float64)
    edges = np.unique(np.quantile(values, np.arange(1, bins) / bins))
    edges = edges[(edges > values.min()) & (edges <= values.max())]
    place = np.searchsorted(edges, values, side="right")
    codes = np.array([[np.median(values[place == k])] for k in range(len(edges) + 1)], dtype=np.float32)
    limits = ["", *(f"{e:.3g}" for e in edges), ""]
    shown = tuple(f"{limits[k]}..{limits[k + 1]}" for k in range(len(codes)))
    return Attribute(name, positions, codes, shown, edges)
