"""What a finding may show beside its figures: slices, curves, and examples of what an attack got back."""

# Pydantic copies defaults; ruff knows that only where BaseModel itself is the base.
# ruff: noqa: RUF012

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .metrics import Interval
from .part import Label, Part

LARGEST_IMAGE = 64
MOST_EXAMPLES = 64
MOST_POINTS = 2000

Pixel = Annotated[int, Field(ge=0, le=255)]
Row = list[Pixel] | list[Annotated[list[Pixel], Field(min_length=3, max_length=3)]]
Image = Annotated[list[Row], Field(min_length=1, max_length=LARGEST_IMAGE)]
"""Pixels 0..255, (height, width) or (height, width, 3)."""


class Slice(Interval):
    """One group of records or clients; limits of all slices of a finding hold together."""

    slice: Label
    measure: Label | None = None


class Line(Part):
    """One line of a chart; `low`..`high` is its band."""

    name: Label
    x: Annotated[list[float], Field(max_length=MOST_POINTS)]
    y: list[float | None]
    low: list[float | None] = []
    high: list[float | None] = []

    @model_validator(mode="after")
    def _aligned(self) -> Line:
        lengths = {len(self.x), len(self.y)} | {len(part) for part in (self.low, self.high) if part}
        if len(lengths) != 1 or bool(self.low) != bool(self.high):
            raise ValueError("x, y, low and high differ in length")
        return self


class Series(Part):
    """A line chart. Scales are linear unless told otherwise."""

    title: Label
    x_label: Label
    y_label: Label
    lines: Annotated[list[Line], Field(min_length=1, max_length=8)]
    x_scale: Literal["linear", "log"] = "linear"
    y_scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _positive_on_logarithms(self) -> Series:
        for scale, name, values in (
            (self.x_scale, "x", [v for line in self.lines for v in line.x]),
            (self.y_scale, "y", [v for line in self.lines for v in line.y if v is not None]),
        ):
            if scale == "log" and any(v <= 0 or math.isinf(v) for v in values):
                raise ValueError(f"{name} has values at or below 0 on a logarithmic scale")
        return self


class ShownExample(Part):
    """`label` is always shown: a class or condition, never an id. Contents are shown under `--reveal` only."""

    label: Label | None = None
    score: float | None = None
    score_name: Label | None = None


class ImageExample(ShownExample):
    """An image and what the attack made of it."""

    kind: Literal["image"]
    original: Image | None = None
    reconstruction: Image | None = None

    @model_validator(mode="after")
    def _rectangular(self) -> ImageExample:
        for name, image in (("original", self.original), ("reconstruction", self.reconstruction)):
            widths = {len(row) for row in image or []}
            if image is not None and (len(widths) != 1 or not 1 <= max(widths) <= LARGEST_IMAGE):
                raise ValueError(f"{name} is not a rectangle of 1 to {LARGEST_IMAGE} pixels a side")
            if len({isinstance(pixel, list) for row in image or [] for pixel in row}) > 1:
                raise ValueError(f"{name} mixes grey and colour")
        return self


class TextExample(ShownExample):
    """A string and what the attack got back of it."""

    kind: Literal["text"]
    original: str | None = None
    reconstruction: str | None = None


class TabularExample(ShownExample):
    """A record and what the attack got back of it, by column."""

    kind: Literal["tabular"]
    original: dict[str, Any] | None = None
    reconstruction: dict[str, Any] | None = None


Example = Annotated[ImageExample | TextExample | TabularExample, Field(discriminator="kind")]
