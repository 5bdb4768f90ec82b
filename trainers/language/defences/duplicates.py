"""Rows that repeat others, exactly or nearly, found exactly and without randomness."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

SHINGLE = 5
"""Characters in a shingle."""
NEAR = 0.8
"""Share of common shingles (Jaccard) from which two rows are near duplicates."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Positions of rows that repeat an earlier kept one: character for character, or nearly."""

    exact: tuple[int, ...]
    near: tuple[int, ...]


def shingles(text: str) -> frozenset[str]:
    """All runs of `SHINGLE` characters, case and spacing aside; the whole text where it is shorter."""
    plain = re.sub(r"\s+", " ", text.lower()).strip()
    return frozenset(plain[i : i + SHINGLE] for i in range(max(1, len(plain) - SHINGLE + 1)))


def duplicates(texts: Sequence[str], near: float = NEAR) -> Duplicates:
    """Go through `texts` in order and drop each that equals a kept one, or shares at least `near` of its shingles with
    one (Broder 1997, "On the resemblance and containment of documents").

    Pairs are found by their rarest shingles: two sets with a Jaccard index of at least t have one in common among the
    first |x| - ceil(t |x|) + 1 of each in any fixed order (Chaudhuri, Ganti, Kaushik 2006, "A primitive operator for
    similarity joins in data cleaning", section 4.3.1), so that nothing is missed.
    """
    sets = [shingles(text) for text in texts]
    frequency = Counter(shingle for each in sets for shingle in each)
    first: dict[str, int] = {}
    index: dict[str, list[int]] = {}
    exact, close = [], []
    for position, (text, own) in enumerate(zip(texts, sets, strict=True)):
        if text in first:
            exact.append(position)
            continue
        rarest = sorted(own, key=lambda s: (frequency[s], s))[: len(own) - math.ceil(near * len(own)) + 1]
        candidates = {other for shingle in rarest for other in index.get(shingle, ())}
        if any(jaccard(own, sets[other]) >= near for other in candidates):
            close.append(position)
            continue
        first[text] = position
        for shingle in rarest:
            index.setdefault(shingle, []).append(position)
    return Duplicates(tuple(exact), tuple(close))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Size of the intersection over that of the union."""
    common = len(one & other)
    return common / (len(one) + len(other) - common)
