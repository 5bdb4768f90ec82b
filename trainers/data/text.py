"""Text files to tables, and text to numbers without fitting anything: hashed bag of words, byte token ids."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from .labels import class_labels
from .spec import DataSpec
from .table import UNLABELLED, Table, Texts, position_ids

PADDING = 256
"""The token id after the end of a text; bytes are 0 to 255."""
TOKENS = 257
_WORD = re.compile(r"\w+")


def txt_table(path: Path, spec: DataSpec, prefix: str = "") -> Table:
    """One record a line: `label<TAB>text` where every line has a tab, plain text where none has.

    The id counts all lines of the file, blank ones, which are skipped, too. Tabs in some lines only are a
    `ConfigError`.
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; convert it first (iconv -t utf-8)") from None
    ids = position_ids(len(lines), prefix)
    kept = [(i, line.rstrip("\r")) for i, line in enumerate(lines) if line.strip()]
    records = tuple(ids[i] for i, _ in kept)
    tabs = ["\t" in line for _, line in kept]
    if any(tabs) and not all(tabs):
        raise ConfigError(
            f"{path}: {sum(tabs)} of {len(tabs)} lines have a tab (line {kept[tabs.index(False)][0] + 1} has none); "
            "give each line as label<TAB>text, or no tab in any"
        )
    if not tabs or not tabs[0]:
        values = tuple(line for _, line in kept)
        return Table(path.stem, Texts(values), np.zeros(len(values), np.int64), UNLABELLED, records)
    parts = [line.partition("\t") for _, line in kept]
    raw = np.array([p[0].strip().strip(spec.label_strip or None) or None for p in parts], dtype=object)
    labels = class_labels(raw, records, spec.classes, f"{path}: label")
    return Table(path.stem, Texts(tuple(p[2].strip() for p in parts)), labels.indices, labels.classes, records)


def bag_of_words(texts: Sequence[str], buckets: int) -> NDArray[np.float32]:
    """Hashed word counts (texts, buckets), each row scaled to length 1; an empty text is a zero row.

    Words are runs of letters and digits in lower case. CRC-32 gives bucket and sign, so that collisions cancel on
    average (Weinberger et al. 2009, arXiv 0902.2206). Nothing is fitted: a row depends on its own text only.
    """
    out = np.zeros((len(texts), buckets), np.float32)
    places: dict[str, tuple[int, int]] = {}
    for row, text in zip(out, texts, strict=True):
        for word, count in Counter(_WORD.findall(text.lower())).items():
            if word not in places:
                code = zlib.crc32(word.encode("utf-8", "surrogatepass"))
                places[word] = ((code >> 1) % buckets, 1 - 2 * (code & 1))
            bucket, sign = places[word]
            row[bucket] += sign * count
    norm = np.sqrt(np.square(out).sum(axis=1, keepdims=True))
    out /= np.where(norm > 0, norm, 1)
    return out


def byte_tokens(texts: Sequence[str], length: int) -> NDArray[np.int64]:
    """UTF-8 bytes as token ids (texts, length), cut at `length`, filled with `PADDING`."""
    out = np.full((len(texts), length), PADDING, np.int64)
    for row, text in zip(out, texts, strict=True):
        data = np.frombuffer(text.encode("utf-8", "surrogatepass")[:length], np.uint8)
        row[: len(data)] = data
    return out


def hashed_category(values: Sequence[str], column: str, buckets: int) -> NDArray[np.int64]:
    """A bucket in [0, buckets) for each category name: the one-hot position where no vocabulary may be fitted."""
    return np.array(
        [zlib.crc32(f"{column}\x1f{v}".encode("utf-8", "surrogatepass")) % buckets for v in values], np.int64
    )
