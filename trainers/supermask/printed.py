"""A network pretrained on printed digits 0 to 4, which is public by construction.

`model = "leakgauge.trainers.supermask.printed:digits"`. The glyphs are rendered from the fonts that come with
matplotlib, so pretraining sees no record of any data set and downloads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.seeds import Seeds

if TYPE_CHECKING:
    from torch import Tensor, nn

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Bold"),
    *("DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "cmb10", "cmr10", "cmss10", "cmtt10"),
)
KNOWN, SIDE, WIDTHS = 5, 8, (256, 256)
COPIES, LARGE, STEPS, BATCH = 12, 32, 400, 64
GRID = 2.0**-12
"""Weights are rounded to this step: what rounding errors of another processor change is below it, so that the digest of
the frozen weights, to which masks are tied, is the same."""


def digits(input_shape: Sequence[int], classes: int) -> nn.Module:
    """An MLP 64-256-256-`classes` for images of 8x8 with ink in [0, 1], trained on printed digits 0 to 4; the outputs
    of other classes are zero. Float32, the same on every call. Raises `IncompatibleError` for other images."""
    from torch import nn

    if prod(input_shape) != SIDE * SIDE or classes < KNOWN:
        raise IncompatibleError(
            f"the network pretrained on printed digits reads {SIDE}x{SIDE} images and at least {KNOWN} classes, got "
            f"shape {tuple(input_shape)} and {classes} classes"
        )
    widths = (SIDE * SIDE, *WIDTHS, classes)
    layers: list[nn.Module] = [nn.Flatten()]
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    network = nn.Sequential(*layers[:-1])
    _fill(network, _pretrained())
    return network


def printed(*, seeds: Seeds) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """`COPIES` images (glyphs, 8, 8) with ink in [0, 1] of each digit 0 to 4 in each font, rotated, sheared and shifted
    at random, and their labels (glyphs,)."""
    generator = seeds.at("glyphs").generator()
    images, labels = [], []
    for font in FONTS:
        for digit in range(KNOWN):
            glyph = _glyph(font, digit)
            for _ in range(COPIES):
                images.append(_distorted(glyph, generator))
                labels.append(digit)
    return np.stack(images), np.array(labels, np.int64)


def _glyph(font: str, digit: int) -> NDArray[np.float64]:
    """One digit, white on black, filling (32, 32) but for a rim."""
    from importlib.resources import files

    from PIL import Image, ImageDraw, ImageFont

    path = files("matplotlib").joinpath("mpl-data", "fonts", "ttf", f"{font}.ttf")
    face = ImageFont.truetype(str(path), 4 * LARGE)
    canvas = Image.new("L", (8 * LARGE, 8 * LARGE))
    ImageDraw.Draw(canvas).text((2 * LARGE, LARGE), str(digit), fill=255, font=face)
    box = canvas.getbbox()
    assert box is not None
    # Scikit-learn's digits fill the height and keep their width.
    shape = (max(LARGE // 4, round(LARGE * (box[2] - box[0]) / (box[3] - box[1]))), LARGE)
    drawn = canvas.crop(box).resize((min(shape[0], LARGE), LARGE))
    out = np.zeros((LARGE, LARGE))
    left = (LARGE - drawn.size[0]) // 2
    out[:, left : left + drawn.size[0]] = np.asarray(drawn, np.float64) / 255
    return out


def _distorted(glyph: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """Rotated by up to 12 degrees, sheared, scaled and shifted; then the mean ink of 4x4 blocks."""
    from scipy.ndimage import affine_transform

    angle, shear = generator.uniform(-0.2, 0.2), generator.uniform(-0.3, 0.3)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1.0, 0.0], [shear, 1.0]]) * generator.uniform(0.95, 1.2, (1, 2))
    middle = np.full(2, (LARGE - 1) / 2)
    offset = middle - matrix @ middle + generator.uniform(-2, 2, 2)
    moved = affine_transform(glyph, matrix, offset=offset, order=1)
    block = LARGE // SIDE
    out: NDArray[np.float64] = moved.reshape(SIDE, block, SIDE, block).mean(axis=(1, 3))
    return np.clip(out, 0, 1)


# Every model of an audit is built on it, and training it takes a second.
@lru_cache(maxsize=1)
def _pretrained() -> dict[str, Tensor]:
    """Weights of the five outputs by name, float64 on the grid."""
    import torch
    from torch import nn

    seeds = Seeds(0).at("printed-digits")
    images, labels = (torch.from_numpy(a) for a in printed(seeds=seeds))
    with seeds.at("init").torch_scope():
        layers = [
            nn.Linear(SIDE * SIDE, WIDTHS[0]),
            nn.ReLU(),
            nn.Linear(*WIDTHS),
            nn.ReLU(),
            nn.Linear(WIDTHS[1], KNOWN),
        ]
        network = nn.Sequential(nn.Flatten(), *layers).double()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    batches = seeds.at("batches").generator()
    for _ in range(STEPS):
        rows = torch.from_numpy(batches.integers(len(labels), size=BATCH))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
        torch.autograd.backward(loss)
        optimizer.step()
    return {name: (p.detach() / GRID).round() * GRID for name, p in network.named_parameters()}


def _fill(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy `weights` into the first rows of each parameter; the rest is zero."""
    import torch

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.zero_()
            parameter[: len(weights[name])].copy_(weights[name])
