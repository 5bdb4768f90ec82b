"""Stored answers of many models as one array that stays on disk: each model's file is mapped only while it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

Source = Path | NDArray[np.float32]
"""An npy file, or an array that is in memory already."""


@dataclass(frozen=True, slots=True, eq=False)
class Stack(NDArrayOperatorsMixin):
    """Reads like an array float32 (models, records, ...) without holding one.

    `stack[k]` is model k's answers, mapped read-only and let go with the last reference to it; slices of models and
    records give another `Stack`; anything else numpy understands gives an array of what was asked for, one model read
    after another. Iterating, indexing and slicing never hold more than one model in memory, whatever the number of
    models; that is how attacks should read it. Arithmetic, numpy's functions and array methods work too, on everything
    read into memory.
    """

    sources: tuple[Source, ...]
    cuts: tuple[tuple[slice, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: Any) -> Any:
        first, *rest = index if isinstance(index, tuple) else (index,)
        inner = tuple(rest)
        if isinstance(first, int | np.integer):
            return self._model(int(first))[inner]
        if not isinstance(first, slice):
            return self._chosen(np.asarray(first), index, alone=not inner)
        chosen = Stack(self.sources[first], self.cuts)
        if all(isinstance(cut, slice) for cut in inner):
            return Stack(chosen.sources, (*self.cuts, inner)) if inner else chosen
        if not len(chosen) or any(cut is None or cut is Ellipsis for cut in inner):
            return np.asarray(self)[index]
        return np.stack([np.asarray(model[inner]) for model in chosen])

    def __iter__(self) -> Any:
        return (self._model(k) for k in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a stack of stored answers cannot become an array without a copy")
        out = np.empty(self.shape, np.float32 if dtype is None else dtype)
        for k, model in enumerate(self):
            out[k] = model
        return out

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        whole = [np.asarray(each) if isinstance(each, Stack) else each for each in inputs]
        return getattr(ufunc, method)(*whole, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    @property
    def shape(self) -> tuple[int, ...]:
        """(models, records, ...); of no models (0,)."""
        return (len(self), *self._model(0).shape) if self.sources else (0,)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """float32."""
        return np.dtype(np.float32)

    def _model(self, k: int) -> NDArray[np.float32]:
        answers = read(self.sources[k])
        for cut in self.cuts:
            answers = answers[cut]
        return answers

    def _chosen(self, first: NDArray[Any], index: Any, *, alone: bool) -> Any:
        """Models named by a list of numbers or a mask; together with other fancy indices numpy's rules are its own."""
        if not alone or first.ndim != 1:
            return np.asarray(self)[index]
        positions: Sequence[int] = np.arange(len(self))[first].tolist()
        return Stack(tuple(self.sources[k] for k in positions), self.cuts)


def read(source: Source) -> NDArray[np.float32]:
    """The array, mapped read-only where it is a file."""
    if isinstance(source, Path):
        mapped: NDArray[np.float32] = np.load(source, mmap_mode="r", allow_pickle=False)
        return mapped
    return source
