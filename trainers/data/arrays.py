"""Arrays from disk: numpy `.npz` (x, y and optionally ids, groups) and idx, the format of MNIST, gzipped or not."""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from .labels import class_labels
from .spec import DataSpec, image_shape
from .table import Content, Images, Table, position_ids, tabular

BYTE_SCALE = 255.0
CHANNELS = (1, 3, 4)
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> NDArray[Any]:
    """The array in an idx file (Y. LeCun's MNIST page): two zero bytes, type, dimensions, big-endian sizes, data.

    Gzip is recognised by its first two bytes. A wrong magic number or size is a `ConfigError`.
    """
    data = _bytes_of(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_TYPES or data[3] == 0:
        raise ConfigError(
            f"{path}: not an idx file (starts with {data[:4].hex() or 'nothing'}, expected 0000, type, rank)"
        )
    kind, header = np.dtype(IDX_TYPES[data[2]]), 4 + 4 * data[3]
    if len(data) < header:
        raise ConfigError(f"{path}: idx header is cut off after {len(data)} bytes")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", count=data[3], offset=4))
    expected = header + math.prod(shape) * kind.itemsize
    if len(data) != expected:
        raise ConfigError(f"{path}: idx of shape {shape} needs {expected} bytes, got {len(data)}; fetch it again")
    return np.frombuffer(data, kind, offset=header).reshape(shape).astype(kind.newbyteorder("="), copy=False)


def idx_table(path: Path, labels: Path | None, spec: DataSpec, prefix: str = "") -> Table:
    """Images or vectors of `path` with the labels of `labels`, or of the file beside it that MNIST's naming implies."""
    features = read_idx(path)
    label_path = labels or _labels_beside(path)
    values = read_idx(label_path)
    if values.ndim != 1 or len(values) != len(features):
        raise ConfigError(f"{label_path}: labels of shape {values.shape} for {len(features)} records in {path.name}")
    return _table(path, features, values, position_ids(len(features), prefix), None, spec)


def npz_table(path: Path, spec: DataSpec, prefix: str = "") -> Table:
    """Arrays `x` (records, ...) and `y` (records,), optionally `ids` and `groups` (records,), of a numpy archive."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files if key in {"x", "y", "ids", "groups"}}
            found = ", ".join(archive.files)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        raise ConfigError(
            f"{path}: not a readable npz of plain arrays ({_one_line(error)}); nothing is unpickled"
        ) from None
    for key in ("x", "y"):
        if key not in arrays:
            raise ConfigError(
                f"{path}: no array {key!r} (found {found or 'none'}); save it with numpy.savez(path, x=..., y=...)"
            )
    x = arrays["x"]
    for key, array in arrays.items():
        if array.ndim == 0 or len(array) != len(x) or (key != "x" and array.ndim != 1):
            raise ConfigError(f"{path}: {key} has shape {array.shape} for {len(x) if x.ndim else 0} records")
    ids = arrays.get("ids")
    records = position_ids(len(x), prefix) if ids is None else tuple(str(i) for i in ids)
    groups = tuple(str(g) for g in arrays["groups"]) if "groups" in arrays else None
    return _table(path, x, arrays["y"], records, groups, spec)


def array_content(features: NDArray[Any], spec: DataSpec, where: str) -> Content:
    """(records, columns) is tabular; (records, h, w), (records, c, h, w) and (records, h, w, c) are images.

    uint8 pixels are divided by 255; floats and booleans are taken as scaled already. `where` is for messages.
    """
    if features.dtype.kind not in "buif":
        raise ConfigError(f"{where}: features have type {features.dtype}, expected numbers")
    if features.ndim == 2:
        return tabular(features.astype(np.float32 if features.dtype.itemsize < 4 else np.float64))
    if features.ndim not in {3, 4}:
        raise ConfigError(
            f"{where}: features have shape {features.shape}, expected 2 (columns), 3 or 4 (images) dimensions"
        )
    if features.dtype.kind in "iu" and features.dtype != np.uint8:
        raise ConfigError(
            f"{where}: images of type {features.dtype}; save uint8 (divided by 255 here) or scaled floats"
        )
    pixels = _channels_first(features, where)
    if spec.image_size is not None:
        pixels = resized(pixels, image_shape(spec.image_size), where)
    if features.dtype.kind == "b":
        pixels = pixels.astype(np.uint8)
    return Images(np.ascontiguousarray(pixels), BYTE_SCALE if features.dtype == np.uint8 else 1.0)


def resized(pixels: NDArray[Any], size: tuple[int, int], where: str) -> NDArray[Any]:
    """Images (records, c, h, w) of bytes at `size` (height, width), bilinear; other types must have it already."""
    if pixels.shape[2:] == size:
        return pixels
    if pixels.dtype != np.uint8:
        raise ConfigError(
            f"{where}: images of {pixels.shape[2:]} in {pixels.dtype} cannot be resized to {size}; save uint8"
        )
    from PIL import Image

    out = np.empty((*pixels.shape[:2], *size), np.uint8)
    for target, image in zip(out.reshape(-1, *size), pixels.reshape(-1, *pixels.shape[2:]), strict=True):
        target[:] = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    return out


def _table(
    path: Path,
    features: NDArray[Any],
    values: NDArray[Any],
    records: tuple[str, ...],
    groups: tuple[str, ...] | None,
    spec: DataSpec,
) -> Table:
    labels = class_labels(values, records, spec.classes, f"{path}: label")
    return Table(path.stem, array_content(features, spec, str(path)), labels.indices, labels.classes, records, groups)


def _channels_first(images: NDArray[Any], where: str) -> NDArray[Any]:
    if images.ndim == 3:
        return images[:, None]
    if images.shape[1] in CHANNELS:
        return images
    if images.shape[3] in CHANNELS:
        return np.moveaxis(images, 3, 1)
    raise ConfigError(f"{where}: images of shape {images.shape} have no axis of 1, 3 or 4 channels in place 1 or 3")


def _labels_beside(path: Path) -> Path:
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if beside == path or not beside.is_file():
        raise ConfigError(f"{path}: no label file found; give data.labels, the idx file of the labels")
    return beside


def _bytes_of(path: Path) -> bytes:
    data = path.read_bytes()
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}: damaged gzip file ({_one_line(error)}); fetch it again") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
