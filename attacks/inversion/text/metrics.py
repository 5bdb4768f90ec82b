"""How much of a text came back: exact sequences, token recall, ROUGE."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


def rouge_n(reference: Sequence[int], found: Sequence[int], n: int) -> float:
    """F1 of shared n-grams (Lin 2004, ROUGE-N), on tokens; 0 where either side has none."""
    a, b = (Counter(tuple(s[k : k + n]) for k in range(len(s) - n + 1)) for s in (reference, found))
    shared = sum((a & b).values())
    total = sum(a.values()) + sum(b.values())
    return 2 * shared / total if total else 0.0


def rouge_l(reference: Sequence[int], found: Sequence[int]) -> float:
    """F1 of the longest common subsequence (Lin 2004, ROUGE-L)."""
    table = np.zeros((len(reference) + 1, len(found) + 1), dtype=np.int64)
    for i, left in enumerate(reference):
        for j, right in enumerate(found):
            table[i + 1, j + 1] = table[i, j] + 1 if left == right else max(table[i, j + 1], table[i + 1, j])
    total = len(reference) + len(found)
    return 2 * float(table[-1, -1]) / total if total else 0.0


def matched(truth: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each true sequence (n, length) the found one that stands for it, -1 filled where there are too few: the
    assignment with the most tokens in place, since a gradient does not say which came first."""
    out = np.full(truth.shape, -1, dtype=np.int64)
    if len(found):
        agreement = (truth[:, None] == found[None]).sum(axis=2)
        rows, columns = linear_sum_assignment(-agreement)
        out[rows] = found[columns]
    return out
