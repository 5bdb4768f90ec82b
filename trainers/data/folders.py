"""Image folders: every folder that holds images is a class, named by its path below the root."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from .arrays import BYTE_SCALE
from .labels import class_labels
from .rows import chosen
from .spec import DataSpec, image_shape
from .table import Images, Table

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
GREY = ("1", "L", "I", "I;16", "F", "LA")


def folder_table(root: Path, spec: DataSpec) -> Table:
    """Images below `root` as bytes (records, 1 or 3, height, width); the record id is the file's path below `root`.

    All files must have one size unless `image_size` is given. Grey only where every file is grey. `limit` is applied
    before any pixel is read.
    """
    files, others = [], 0
    for path in sorted(p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".")):
        if path.suffix.lower() in SUFFIXES and path.parent != root:
            files.append(path)
        else:
            others += 1
    if not files:
        raise ConfigError(f"{root}: no images in subfolders; expected class/file with one of {', '.join(SUFFIXES)}")
    ids = tuple(p.relative_to(root).as_posix() for p in files)
    names = np.array([p.parent.relative_to(root).as_posix() for p in files], dtype=object)
    labels = class_labels(names, ids, spec.classes, f"{root}: class folder")
    keep = chosen(len(files), spec)
    kept = [files[i] for i in keep]
    pixels = stack_images((_opened(path) for path in kept), [str(path) for path in kept], spec)
    warnings = (f"{others} files in the folder are no images of a class and were skipped",) if others else ()
    return Table(
        root.resolve().name,
        Images(pixels, BYTE_SCALE),
        labels.indices[keep],
        labels.classes,
        tuple(ids[i] for i in keep),
        warnings=warnings,
    )


def stack_images(images: Iterable[Image.Image], names: Sequence[str], spec: DataSpec) -> NDArray[np.uint8]:
    """Decoded images to bytes (records, channels, height, width), one at a time; `names` are for messages."""
    out = np.empty((0, 1, 0, 0), np.uint8)
    for position, (image, name) in enumerate(zip(images, names, strict=True)):
        if position == 0:
            size = image_shape(spec.image_size) if spec.image_size is not None else image.size[::-1]
            out = np.empty((len(names), 1, *size), np.uint8)
        if out.shape[1] == 1 and image.mode not in GREY:
            # The first colour image makes all of them colour; grey is equal parts of the three.
            out = np.repeat(out, 3, axis=1)
        mode = "L" if out.shape[1] == 1 else "RGB"
        array = np.asarray(_fitted(image, mode, (out.shape[2], out.shape[3]), name, spec))
        out[position] = array[None] if mode == "L" else array.transpose(2, 0, 1)
    return out


def _opened(path: Path) -> Image.Image:
    """The image, its file closed: thousands of open files would exceed the system's limit."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConfigError(
            f"{path}: not a readable image ({' '.join(str(error).split())}); replace or remove it"
        ) from None


def _fitted(image: Image.Image, mode: str, size: tuple[int, int], name: str, spec: DataSpec) -> Image.Image:
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        raise ConfigError(f"{name}: {image.mode} pixels have more than 8 bits; convert it to 8 bits first")
    if image.size[::-1] != size and spec.image_size is None:
        raise ConfigError(
            f"{name}: image is {image.size[::-1]}, the first is {size}; give data.image_size = [height, width]"
        )
    converted = image.convert(mode)
    return converted if converted.size[::-1] == size else converted.resize(size[::-1], Image.Resampling.BILINEAR)
