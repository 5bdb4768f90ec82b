"""Exact records of a small batch from a linear layer followed by ReLU (Dimitrov et al. 2024, SPEAR, arXiv 2403.03945).

The weight gradient of Z = X W^T + b is D^T X with D = dL/dZ (batch, outputs). Its rank is the batch size, so any
factorisation L R of it has D^T = L Q and X = Q^-1 R for an unknown small square Q. ReLU makes the columns of D^T
sparse: where batch - 1 rows of L happen to be zeros of one column, the vector orthogonal to them is that column of Q.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.seeds import Seeds

Matrix = NDArray[np.float64]
ZERO = 1e-4
"""Entries below this share of a column's largest are zeros: single precision leaves 1e-7 to 1e-5."""
LEAST_ZEROS = 0.1
"""Share of zeros that tells a column of D from a chance direction, which has batch - 1 zeros."""
SURE = 0.999
"""Agreement of the layer's activity with the gradient's zeros above which the search ends."""
NEW = 1e-3
"""Length of a direction's part outside the span of the others above which it is another one."""
CHUNK, CHUNKS = 2000, 8


@dataclass(frozen=True, slots=True)
class ReluInversion:
    """`inputs` (batch, in), and `agreement`: the share of (record, output) pairs in which the layer is active where the
    gradient says so, 1 for an exact solution. An attacker can compute it, so it is a certificate."""

    inputs: Matrix
    agreement: float


def invert_relu(
    weight_gradient: Matrix, bias_gradient: Matrix, weight: Matrix, bias: Matrix, *, batch_size: int, seeds: Seeds
) -> ReluInversion | None:
    """The batch behind gradients (out, in) and (out,) of a layer with `weight` and `bias` that ReLU follows.

    None where fewer than `batch_size` sparse columns are found: more records than the layer can tell apart, or noise.
    Each random draw of batch - 1 outputs works with probability about batch / 2^(batch - 1), so small batches only.
    """
    _check(weight_gradient, bias_gradient, batch_size)
    left, values, right = np.linalg.svd(np.asarray(weight_gradient, np.float64), full_matrices=False)
    if batch_size > len(values) or not values[batch_size - 1] > 1e-6 * values[0]:
        return None
    basis, rest = left[:, :batch_size], values[:batch_size, None] * right[:batch_size]
    best: ReluInversion | None = None
    for columns in _sparse_columns(basis, batch_size, seeds.generator()):
        found = _solved(basis, rest, columns, bias_gradient, weight, bias)
        if found is not None and (best is None or found.agreement > best.agreement):
            best = found
        if best is not None and best.agreement > SURE:
            break
    return best


def _solved(
    basis: Matrix, rest: Matrix, columns: Matrix, bias_gradient: Matrix, weight: Matrix, bias: Matrix
) -> ReluInversion | None:
    # The bias gradient is the sum of D's rows, which fixes the length of every column.
    scales = np.linalg.lstsq(basis @ columns, np.asarray(bias_gradient, np.float64), rcond=None)[0]
    if not (np.abs(scales) > 0).all():
        return None
    inputs: Matrix = np.asarray(np.linalg.solve(columns * scales, rest), np.float64)
    active = inputs @ np.asarray(weight, np.float64).T + np.asarray(bias, np.float64) > 0
    return ReluInversion(inputs, float((active == ~_zeros(basis @ columns).T).mean()))


def _check(weight_gradient: Matrix, bias_gradient: Matrix, batch_size: int) -> None:
    if weight_gradient.ndim != 2 or bias_gradient.shape != weight_gradient.shape[:1]:
        raise IncompatibleError(
            f"a linear layer's gradients have shapes (out, in) and (out,), got {weight_gradient.shape} and "
            f"{bias_gradient.shape}"
        )
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    if not (np.isfinite(weight_gradient).all() and np.isfinite(bias_gradient).all()):
        raise ConfigError("the layer's gradient has NaN or infinite entries: nothing can be read from it")


def _zeros(columns: Matrix) -> NDArray[np.bool_]:
    """Which entries of columns (outputs, n) are zero."""
    small: NDArray[np.bool_] = np.abs(columns) < ZERO * np.abs(columns).max(axis=0, keepdims=True)
    return small


def _sparse_columns(basis: Matrix, batch: int, generator: np.random.Generator) -> Iterator[Matrix]:
    """Sets (batch, batch) of directions q, one a column, for which basis @ q has many zeros; better ones as it goes on.

    A mixture of two columns is zero where both are, so the sparsest directions come first and exclude their mixtures.
    """
    lengths = np.linalg.norm(basis, axis=1)
    live = basis[lengths > ZERO * lengths.max()]
    if batch == 1:
        yield np.ones((1, 1))
    if batch == 1 or len(live) < batch:
        return
    known, counts = np.zeros((0, batch)), np.zeros(0)
    enough = max(LEAST_ZEROS * len(live), 2 * batch)
    for _ in range(CHUNKS):
        rows = generator.random((CHUNK, len(live))).argpartition(batch - 1, axis=1)[:, : batch - 1]
        directions = np.linalg.svd(live[rows])[2][:, -1]
        zeros = _zeros(live @ directions.T).sum(axis=0)
        known = np.concatenate([known, directions[zeros >= enough]])
        counts = np.concatenate([counts, zeros[zeros >= enough]])
        chosen = _independent(known, np.argsort(-counts, kind="stable"), batch)
        if len(chosen) == batch:
            yield known[chosen].T
        # What was not chosen may still be needed once a mixture is found out.
        kept = np.argsort(-counts, kind="stable")[:CHUNK]
        known, counts = known[kept], counts[kept]


def _independent(directions: Matrix, order: NDArray[np.intp], batch: int) -> list[int]:
    """The first `batch` positions in `order` whose unit directions (n, batch) are none of the others' mixtures."""
    left = directions[order]
    chosen: list[int] = []
    while len(chosen) < batch:
        lengths = np.linalg.norm(left, axis=1)
        if not (lengths > NEW).any():
            break
        first = int(np.argmax(lengths > NEW))
        chosen.append(int(order[first]))
        unit = left[first] / lengths[first]
        left = left - np.outer(left @ unit, unit)
    return chosen
