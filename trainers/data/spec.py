"""`DataSpec`: the `[data]` section of an audit file as one frozen value, checked when it is built."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ...audit.errors import ConfigError
from ...audit.registry import nearest

FORMATS = ("csv", "tsv", "parquet", "npz", "idx", "images", "txt")
MISSING = ("drop", "error", "category")
FITS = ("public", "all", "none")
TEXT_ENCODINGS = ("bag-of-words", "bytes", "tokens")
PIN_REFUSED = ("main", "master", "head")

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    """Where the records come from and how they become numbers. Exactly one of `name`, `path`, `hub` is given.

    Source: `name` (registered data set or `module:attr`), `path` (one file or folder, or several files read in
    order), `hub` (Hugging Face name with a pinned `revision`, or a local folder or file read by the same library;
    `split`, `config_name`). `format` is one of `FORMATS`, inferred from the suffix when empty.
    Columns: `target` holds the label, `columns` names the columns of a file without header, `id_column` the stable
    ids, `group_column` the user of each record, `text_column` the text to encode, `drop` what to leave out,
    `categorical` columns of digits that are no quantities. `labels`: idx label files, one for each path.
    Labels: `classes` fixes the class names and their order; `label_strip` are characters cut from both ends of a
    label; `label_noise` in [0, 1] is the probability that a record's label is replaced by another class.
    Rows: `limit` keeps that many, drawn by `seed`; `missing` says what a missing value does; `missing_values` are the
    strings that mean missing; `comment` starts a comment in a csv file.
    Numbers: `preprocessing_fit` (which rows the scaler and vocabularies may see), `image_size` (height, width),
    `text_encoding`, `text_buckets` (width of the hashed bag of words), `text_length` (bytes or tokens of a row),
    `tokenizer` (for "tokens": a folder with tokenizer.json, `package:name/folder`, or a Hub name with
    `tokenizer_revision`; taken as public).
    """

    seed: int
    name: str = ""
    path: str | Names = ""
    hub: str = ""
    revision: str = ""
    split: str = "train"
    config_name: str = ""
    format: str = ""
    target: str = ""
    columns: Names = ()
    id_column: str = ""
    group_column: str = ""
    text_column: str = ""
    drop: Names = ()
    categorical: Names = ()
    labels: str | Names = ""
    classes: Names = ()
    label_strip: str = ""
    label_noise: float = 0.0
    limit: int | None = None
    missing: str = "error"
    missing_values: Names = ("", "?", "NA", "N/A", "NaN", "nan", "NULL", "null")
    comment: str = ""
    preprocessing_fit: str = "public"
    image_size: int | tuple[int, int] | None = None
    text_encoding: str = ""
    text_buckets: int = 1024
    text_length: int = 128
    tokenizer: str = ""
    tokenizer_revision: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, field.name, value)
            fits, wanted = _KINDS[str(field.type)]
            if not fits(value):
                raise ConfigError(f"data.{field.name}: expected {wanted}, got {value!r}")
        self._check_source()
        self._check_values()

    @classmethod
    def of(cls, section: Mapping[str, Any], *, seed: int) -> DataSpec:
        """The `[data]` table of an audit file, `seed` coming from `[audit]`. Unknown keys are a `ConfigError`."""
        known = [f.name for f in fields(cls) if f.name != "seed"]
        for key in section:
            if key not in known:
                raise ConfigError(f"unknown key 'data.{key}'{nearest(key, known)}")
        return cls(seed=seed, **section)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The data files or the folder."""
        return _paths(self.path)

    @property
    def label_paths(self) -> tuple[Path, ...]:
        """The idx label files as given; empty when they are to be found beside the images."""
        return _paths(self.labels)

    def is_default(self, key: str) -> bool:
        """Whether the field `key` was left as it is."""
        default = next(f.default for f in fields(self) if f.name == key)
        return bool(getattr(self, key) == default)

    def _check_source(self) -> None:
        given = [key for key in ("name", "path", "hub") if getattr(self, key)]
        if len(given) != 1:
            raise ConfigError(f"data: give exactly one of name, path, hub; got {', '.join(given) or 'none'}")
        if not self.hub or Path(self.hub).expanduser().exists():
            return
        if not self.revision:
            raise ConfigError(
                f"data.hub {self.hub!r} needs data.revision, the commit to read: unpinned data change under the audit"
            )
        if self.revision.lower() in PIN_REFUSED:
            raise ConfigError(f"data.revision {self.revision!r} is a moving branch: give the commit or a version tag")

    def _check_values(self) -> None:
        if self.format and self.format not in FORMATS:
            raise ConfigError(f"data.format: unknown value {self.format!r}{nearest(self.format, list(FORMATS))}")
        choices = {"missing": MISSING, "preprocessing_fit": FITS, "text_encoding": ("", *TEXT_ENCODINGS)}
        for key, known in choices.items():
            value = getattr(self, key)
            if value not in known:
                raise ConfigError(
                    f"data.{key}: unknown value {value!r}; choose from {', '.join(k for k in known if k)}"
                )
        self._check_numbers()
        self._check_tokenizer()
        for key in ("columns", "classes"):
            names = getattr(self, key)
            if len(set(names)) < len(names):
                doubled = next(n for n in names if names.count(n) > 1)
                raise ConfigError(f"data.{key}: {doubled!r} is given twice")
        if len(self.comment) > 1:
            raise ConfigError(f"data.comment must be one character, got {self.comment!r}")

    def _check_tokenizer(self) -> None:
        if self.text_encoding == "tokens" and not self.tokenizer:
            raise ConfigError(
                "data.text_encoding = 'tokens' needs data.tokenizer: a folder with tokenizer.json, "
                "package:name/folder, or a name on the Hub with data.tokenizer_revision"
            )
        for key in ("tokenizer", "tokenizer_revision"):
            if getattr(self, key) and self.text_encoding != "tokens":
                raise ConfigError(
                    f"data.{key} = {getattr(self, key)!r} means nothing for text_encoding {self.text_encoding!r}: set "
                    "data.text_encoding = 'tokens'"
                )

    def _check_numbers(self) -> None:
        if not 0 <= self.label_noise <= 1:
            raise ConfigError(f"data.label_noise must lie in [0, 1], got {self.label_noise}")
        for key in ("limit", "text_buckets", "text_length"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"data.{key} must be at least 1, got {value}")
        if self.image_size is not None and min(image_shape(self.image_size)) < 1:
            raise ConfigError(f"data.image_size must be at least 1, got {self.image_size}")


def image_shape(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an `image_size`; one number means a square."""
    return (size, size) if isinstance(size, int) else size


def _paths(value: str | Names) -> tuple[Path, ...]:
    names = (value,) if isinstance(value, str) else value
    return tuple(Path(name).expanduser() for name in names if name)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _names(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(v, str) for v in value)


def _pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_whole(v) for v in value)


# Keyed by annotation, so that a new field is checked without a second list to keep in step.
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "str": (lambda v: isinstance(v, str), "text"),
    "int": (_whole, "a whole number"),
    "float": (lambda v: _whole(v) or (isinstance(v, float) and math.isfinite(v)), "a number"),
    "Names": (_names, "a list of names"),
    "str | Names": (lambda v: isinstance(v, str) or _names(v), "a name or a list of names"),
    "int | None": (lambda v: v is None or _whole(v), "a whole number"),
    "int | tuple[int, int] | None": (lambda v: v is None or _whole(v) or _pair(v), "a whole number or [height, width]"),
}
