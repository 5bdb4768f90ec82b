"""Data sets that come with installed packages: digits, breast cancer and wine (scikit-learn), prose (Python itself)."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from .spec import DataSpec
from .table import UNLABELLED, Images, Table, Texts, position_ids, tabular

CROP = 32
DIGIT_MAXIMUM = 16.0
"""Digits count ink in 4x4 blocks, so that 16 is the largest value possible."""


def digits(_spec: DataSpec) -> Table:
    """1797 handwritten digits of 8x8 (UCI, by scikit-learn): images (records, 1, 8, 8), ten classes."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    pixels = bunch.images[:, None].astype(np.uint8)
    return Table(
        "digits",
        Images(pixels, DIGIT_MAXIMUM),
        bunch.target.astype(np.int64),
        tuple(str(i) for i in range(10)),
        position_ids(len(pixels)),
    )


def photos(_spec: DataSpec) -> Table:
    """520 colour crops of 32x32 of two photographs (a temple and a flower, by scikit-learn), ten classes.

    Real images for reconstruction, not a classification task: the class is the photograph and which fifth of it the
    crop lies in. Crops do not overlap; the group of a crop is its photograph.
    """
    from sklearn.datasets import load_sample_images

    crops, labels, groups = [], [], []
    for number, picture in enumerate(load_sample_images().images):
        rows, columns = picture.shape[0] // CROP, picture.shape[1] // CROP
        for row in range(rows):
            for column in range(columns):
                crops.append(picture[row * CROP : (row + 1) * CROP, column * CROP : (column + 1) * CROP])
                labels.append(5 * number + 5 * column // columns)
                groups.append(f"photo-{number}")
    pixels = np.moveaxis(np.stack(crops), 3, 1)
    return Table(
        "photos",
        Images(pixels, 255.0),
        np.array(labels, np.int64),
        tuple(str(i) for i in range(10)),
        position_ids(len(pixels)),
        groups=tuple(groups),
    )


def breast_cancer(_spec: DataSpec) -> Table:
    """569 tumours, 30 measurements, malignant or benign (Wisconsin diagnostic, by scikit-learn)."""
    from sklearn.datasets import load_breast_cancer

    return _measured("breast-cancer", load_breast_cancer())


def wine(_spec: DataSpec) -> Table:
    """178 wines, 13 measurements, three cultivars (UCI, by scikit-learn)."""
    from sklearn.datasets import load_wine

    return _measured("wine", load_wine())


def prose(spec: DataSpec) -> Table:
    """English technical prose: the topics of `pydoc_data`, cut into windows of `text_length` characters.

    Unlabelled. The group of a window is its topic. The text changes with the Python version, and so does the
    fingerprint; a topic's last, shorter piece is left out.
    """
    from pydoc_data.topics import topics

    values, records, groups = [], [], []
    for topic in sorted(topics):
        text = topics[topic]
        for number, start in enumerate(range(0, len(text) - spec.text_length + 1, spec.text_length)):
            values.append(text[start : start + spec.text_length])
            records.append(f"{topic}-{number:04d}")
            groups.append(topic)
    labels = np.zeros(len(values), np.int64)
    return Table("prose", Texts(tuple(values)), labels, UNLABELLED, tuple(records), tuple(groups))


def prose_public(spec: DataSpec) -> Table:
    """The topics of `prose` whose name has an odd CRC-32 (a third of the text), for public pretraining."""
    return _topics(spec, "prose-public", 1)


def prose_private(spec: DataSpec) -> Table:
    """The topics of `prose` that are not in `prose-public`."""
    return _topics(spec, "prose-private", 0)


def _topics(spec: DataSpec, name: str, parity: int) -> Table:
    table = prose(spec)
    assert table.groups is not None
    assert isinstance(table.content, Texts)
    kept = np.array([zlib.crc32(topic.encode()) % 2 == parity for topic in table.groups])
    positions = np.flatnonzero(kept)
    return Table(
        name,
        table.content.take(positions),
        table.labels[positions],
        UNLABELLED,
        tuple(table.records[i] for i in positions),
        tuple(table.groups[i] for i in positions),
    )


def _measured(name: str, bunch: Any) -> Table:
    return Table(
        name,
        tabular(bunch.data, [str(n) for n in bunch.feature_names]),
        bunch.target.astype(np.int64),
        tuple(str(n) for n in bunch.target_names),
        position_ids(len(bunch.data)),
    )
