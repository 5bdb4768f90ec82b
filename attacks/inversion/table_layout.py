"""Which encoded columns are one category, and which are numbers: what an attacker who knows the form can use."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.types import Rows
from ..attribute.columns import Attribute, find_attribute


@dataclass(frozen=True, slots=True)
class TableLayout:
    """`categories` are one-hot groups of columns, `numbers` (columns,) all other positions with their `names`."""

    categories: tuple[Attribute, ...]
    numbers: NDArray[np.intp]
    names: tuple[str, ...]

    def chosen(self, features: Any) -> NDArray[np.int64]:
        """The largest column of every category, (records, categories), of features (records, columns)."""
        values = np.asarray(features, np.float64)
        out = np.zeros((len(values), len(self.categories)), np.int64)
        for place, category in enumerate(self.categories):
            out[:, place] = values[:, category.positions].argmax(axis=1)
        return out

    def relaxed(self, raw: Any, low: Any, high: Any) -> Any:
        """Features from unbounded numbers `raw` (..., columns): a softmax over every category, numbers kept between
        `low` and `high` (columns,). Differentiable."""
        import torch

        out = torch.maximum(torch.minimum(raw, high), low)
        for category in self.categories:
            place = torch.from_numpy(category.positions).to(raw.device)
            out = out.index_copy(-1, place, raw.index_select(-1, place).softmax(-1))
        return out

    @staticmethod
    def value(category: Attribute, position: int) -> str:
        """The name of the value that column `position` of a category stands for."""
        code = category.codes[:, position] > 0.5
        return category.values[int(code.argmax())] if code.any() else f"column {position}"

    def shown(self, features: NDArray[Any]) -> dict[str, str]:
        """One record (columns,) in words."""
        picked = self.chosen(features[None])[0]
        words = {c.name: self.value(c, int(k)) for c, k in zip(self.categories, picked, strict=True)}
        return words | {n: f"{features[p]:.2f}" for n, p in zip(self.names, self.numbers, strict=True)}


def table_layout(public: Rows) -> TableLayout:
    """The layout of encoded tables, from column names such as `sex=female` (all columns are numbers without names).

    `IncompatibleError` for records that are no tables. A category with one value among the public rows is left as
    numbers: there is nothing to choose.
    """
    if public.features.ndim != 2 or not np.issubdtype(public.features.dtype, np.floating):
        raise IncompatibleError(
            f"tabular inversion needs tables of numbers; {public.name!r} has records of shape "
            f"{public.features.shape[1:]} and type {public.features.dtype}"
        )
    columns = public.columns or tuple(map(str, range(public.features.shape[1])))
    marks = [c.partition("=")[0].partition("#")[0] for c in columns]
    found = []
    for name, count in Counter(marks).items():
        # A number with a flag for missing values shares its name with the flag, yet is no category.
        if count > 1 and name not in columns:
            positions = [i for i, mark in enumerate(marks) if mark == name]
            if (public.features[:, positions].max(axis=0) > 0).sum() > 1:
                found.append(find_attribute(public, name, bins=2))
    taken = {int(p) for category in found for p in category.positions}
    numbers = np.array([i for i in range(len(columns)) if i not in taken], dtype=np.intp)
    return TableLayout(tuple(found), numbers, tuple(columns[i] for i in numbers))
