"""Several files read in order to one table: classes and categories are united, columns must agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.types import IntArray
from .labels import ordered_classes
from .table import Content, Images, Table, Tabular, Texts


def joined(tables: Sequence[Table]) -> Table:
    """The records of all `tables`, whose ids already differ. Differing columns or image sizes are a `ConfigError`."""
    if len(tables) == 1:
        return tables[0]
    # Given classes keep their order; found ones are put in order again.
    same = all(t.classes == tables[0].classes for t in tables)
    classes = tables[0].classes if same else ordered_classes({c for t in tables for c in t.classes})
    groups = [t.groups or () for t in tables]
    grouped = all(t.groups is not None for t in tables)
    return Table(
        "+".join(t.name for t in tables),
        _contents([t.content for t in tables], [t.name for t in tables]),
        np.concatenate([_translated(t.labels, t.classes, classes) for t in tables]).astype(np.int64),
        classes,
        tuple(r for t in tables for r in t.records),
        tuple(g for part in groups for g in part) if grouped else None,
        warnings=tuple(w for t in tables for w in t.warnings),
    )


def _contents(parts: Sequence[Content], names: Sequence[str]) -> Content:
    texts = [p for p in parts if isinstance(p, Texts)]
    if len(texts) == len(parts):
        return Texts(tuple(v for p in texts for v in p.values), texts[0].column)
    images = [p for p in parts if isinstance(p, Images)]
    if len(images) == len(parts):
        return _images(images, names)
    tables = [p for p in parts if isinstance(p, Tabular)]
    if len(tables) == len(parts):
        return _tabular(tables, names)
    raise ConfigError(f"data.path: {' and '.join(names)} hold different kinds of records and cannot be joined")


def _images(parts: Sequence[Images], names: Sequence[str]) -> Images:
    for part, name in zip(parts, names, strict=True):
        if part.pixels.shape[1:] != parts[0].pixels.shape[1:] or part.scale != parts[0].scale:
            raise ConfigError(
                f"data.path: images of {name} have shape {part.pixels.shape[1:]}, those of {names[0]} "
                f"{parts[0].pixels.shape[1:]}; give data.image_size"
            )
    return Images(np.concatenate([p.pixels for p in parts]), parts[0].scale)


def _tabular(parts: Sequence[Tabular], names: Sequence[str]) -> Tabular:
    first = parts[0]
    for part, name in zip(parts, names, strict=True):
        for mine, theirs in (
            (first.numeric_names, part.numeric_names),
            (first.categorical_names, part.categorical_names),
        ):
            odd = sorted(set(mine) ^ set(theirs))
            if mine != theirs:
                column = odd[0] if odd else theirs[0]
                raise ConfigError(
                    f"data.path: column {column!r} of {name} differs from {names[0]} in place or type; "
                    "make the columns agree, or name it in data.categorical"
                )
    levels, codes = [], []
    for place in range(len(first.categorical_names)):
        united = tuple(sorted({level for p in parts for level in p.levels[place]}))
        levels.append(united)
        codes.append(np.concatenate([_translated(p.codes[:, place], p.levels[place], united) for p in parts]))
    rows = sum(len(p) for p in parts)
    return Tabular(
        np.concatenate([p.numeric for p in parts]),
        first.numeric_names,
        np.stack(codes, axis=1).astype(np.int32) if codes else np.zeros((rows, 0), np.int32),
        first.categorical_names,
        tuple(levels),
    )


def _translated(codes: IntArray, old: Sequence[str], new: Sequence[str]) -> NDArray[np.int64]:
    """Indices into `old` as indices into `new`; -1 stays."""
    place = {name: i for i, name in enumerate(new)}
    return np.array([*(place[name] for name in old), -1], np.int64)[codes]
