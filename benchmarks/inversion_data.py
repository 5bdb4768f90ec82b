"""CIFAR-10 and MNIST from the folder LEAKGAUGE_DATA (docs/data.md), as victims and public images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audit.errors import PrerequisiteError
from ..audit.types import Rows
from ..trainers.data.arrays import read_idx

SHEETS, SHEET, SIDE = 4, 1000, 32


def data_folder(name: str) -> Path:
    """The folder `name` below LEAKGAUGE_DATA. `PrerequisiteError` where it is absent."""
    root = Path(os.environ.get("LEAKGAUGE_DATA", "../shared/data"))
    if not (root / name).is_dir():
        raise PrerequisiteError(f"no folder {root / name}: set LEAKGAUGE_DATA to the folder that holds {name}")
    return root / name


def cifar() -> Rows:
    """The first 4000 training images of CIFAR-10, (3, 32, 32) in [0, 1]."""
    from PIL import Image

    folder = data_folder("cifar10_png4k")
    sheets = [np.asarray(Image.open(folder / f"cifar10_batch_{b}.png").convert("RGB")) for b in range(SHEETS)]
    pixels = np.concatenate(sheets).reshape(SHEETS * SHEET, SIDE, SIDE, 3)
    return _rows("cifar10", np.moveaxis(pixels, 3, 1), np.loadtxt(folder / "labels.txt", dtype=np.int64))


def mnist(limit: int = 4000) -> Rows:
    """The first `limit` training images of MNIST, (1, 28, 28) in [0, 1]."""
    folder = data_folder("mnist")
    pixels = read_idx(folder / "train-images-idx3-ubyte.gz")[:limit, None]
    return _rows("mnist", pixels, read_idx(folder / "train-labels-idx1-ubyte.gz")[:limit].astype(np.int64))


def _rows(name: str, pixels: NDArray[Any], labels: NDArray[np.int64]) -> Rows:
    features = (pixels / 255).astype(np.float32)
    return Rows(features, labels, tuple(map(str, range(len(features)))), 10, name)
