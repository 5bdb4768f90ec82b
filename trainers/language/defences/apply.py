"""Defences applied to byte rows: duplicates dropped, values replaced, values drawn anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....audit.seeds import Seeds
from ....audit.text import TEXT_PADDING
from ....audit.types import BoolArray
from . import patterns, presidio
from .duplicates import duplicates
from .patterns import Span
from .spec import KINDS, Defences, Defended

Find = Callable[[str, Sequence[str]], list[Span]]
LETTERS = {"a": "abcdefghijklmnopqrstuvwxyz", "A": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0": "0123456789"}


def defend(features: NDArray[Any], inside: BoolArray, defences: Defences, *, seeds: Seeds) -> Defended:
    """The rows of `features` int64 (records, bytes; 256 fills up) that are `inside`, defended; the others as they were.

    What becomes of a row depends on that row, its position and `seeds` alone, except for `deduplicate`, which drops
    rows from `inside` that repeat an earlier row of it. Replaced text that no longer fits is cut at the row's end.
    """
    out = np.array(features, np.int64)
    texts = {int(k): _text(out[k]) for k in np.flatnonzero(inside)}
    kept, metrics = _deduplicated(texts, inside) if defences.deduplicate else (inside.copy(), {})
    find: Find = presidio.find if defences.library == "presidio" else patterns.find
    counts: Counter[tuple[str, str]] = Counter()
    changed = 0
    for position in np.flatnonzero(kept):
        text = texts[int(position)]
        after = _scrubbed(text, defences, find, counts)
        after = _randomised(after, defences, find, counts, seeds.at(int(position)))
        if after != text:
            changed += 1
            out[position] = _bytes(after, out.shape[1])
    metrics |= {f"scrubbed_{kind}": float(counts["scrubbed", kind]) for kind in defences.scrub}
    if defences.randomise:
        metrics |= {f"randomised_{kind}": float(counts["randomised", kind]) for kind in _left(defences)}
    if defences.scrub or defences.randomise:
        metrics["rows_changed"] = float(changed)
    return Defended(out, kept, metrics)


def _deduplicated(texts: dict[int, str], inside: BoolArray) -> tuple[BoolArray, dict[str, float]]:
    found, positions = duplicates(list(texts.values())), list(texts)
    kept = inside.copy()
    kept[[positions[k] for k in (*found.exact, *found.near)]] = False
    return kept, {"rows_dropped_exact": float(len(found.exact)), "rows_dropped_near": float(len(found.near))}


def _scrubbed(text: str, defences: Defences, find: Find, counts: Counter[tuple[str, str]]) -> str:
    spans = find(text, defences.scrub) if defences.scrub else []
    counts.update(("scrubbed", span.kind) for span in spans)
    tag = "<{}>" if defences.replacement == "tag" else ""
    return _replaced(text, spans, lambda span: tag.format(span.kind))


def _randomised(text: str, defences: Defences, find: Find, counts: Counter[tuple[str, str]], seeds: Seeds) -> str:
    """Each value of a kind not scrubbed is drawn anew with probability `randomise`, by a coin of its own."""
    spans = find(text, _left(defences)) if defences.randomise else []
    if not spans:
        return text
    generator = seeds.generator()
    coins = generator.random(len(spans)) < defences.randomise
    chosen = [span for span, coin in zip(spans, coins, strict=True) if coin]
    counts.update(("randomised", span.kind) for span in chosen)
    return _replaced(text, chosen, partial(_another, text, generator))


def _left(defences: Defences) -> tuple[str, ...]:
    """Kinds that may be randomised. Names are left alone: most of what looks like one in prose is none."""
    return tuple(kind for kind in KINDS if kind not in (*defences.scrub, "name"))


def _another(text: str, generator: np.random.Generator, span: Span) -> str:
    """A value of the same form: every digit a random digit, every letter a random one of its case, the rest kept.
    Checksums are not kept."""
    out = []
    for character in text[span.start : span.end]:
        kind = "0" if character in LETTERS["0"] else "A" if character.isupper() else "a"
        drawn = character.isascii() and character.isalnum()
        out.append(LETTERS[kind][generator.integers(len(LETTERS[kind]))] if drawn else character)
    return "".join(out)


def _replaced(text: str, spans: Sequence[Span], new: Callable[[Span], str]) -> str:
    parts, end = [], 0
    for span in spans:
        parts += [text[end : span.start], new(span)]
        end = span.end
    return "".join([*parts, text[end:]])


def _text(row: NDArray[np.int64]) -> str:
    """Text of a row. Rows may be cut within a character: such bytes pass through unharmed."""
    return bytes(row[row < TEXT_PADDING].astype(np.uint8)).decode("utf-8", "surrogateescape")


def _bytes(text: str, width: int) -> NDArray[np.int64]:
    out = np.full(width, TEXT_PADDING, np.int64)
    data = np.frombuffer(text.encode("utf-8", "surrogateescape")[:width], np.uint8)
    out[: len(data)] = data
    return out
