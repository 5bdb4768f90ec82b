"""Hugging Face `datasets` by name and pinned revision, and local folders and files read by the same library."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...audit.errors import ConfigError, PrerequisiteError
from ...audit.registry import nearest
from .arrays import BYTE_SCALE
from .folders import stack_images
from .frames import frame_table
from .labels import class_labels
from .rows import chosen
from .spec import DataSpec
from .table import Images, Table, position_ids

BUILDERS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json", ".txt": "text"}


def hub_table(spec: DataSpec) -> Table:
    """One split of a Hugging Face data set. An image column gives images, otherwise columns are read as in a csv file.

    Without network, or where the name, revision or split does not exist, a one-line `PrerequisiteError` or
    `ConfigError`. Scripts in a repository are never run.
    """
    data = _loaded(spec)
    kinds = {name: type(feature).__name__ for name, feature in data.features.items()}
    where = f"data.hub {spec.hub!r}"
    images = [name for name, kind in kinds.items() if kind == "Image" and name not in spec.drop]
    if images:
        return _image_table(data, images[0], spec, where)
    target = spec.target or ("label" if "label" in kinds else "")
    frame = data.to_pandas()
    classes: tuple[str, ...] = ()
    if kinds.get(target) == "ClassLabel":
        classes = tuple(data.features[target].names)
        # -1 is the library's mark for a hidden label.
        frame[target] = [classes[i] if i is not None and i >= 0 else None for i in data[target]]
    return frame_table(frame, _name(spec), spec, where=where, classes=classes)


def _image_table(data: Any, column: str, spec: DataSpec, where: str) -> Table:
    import numpy as np

    target = spec.target or "label"
    if target not in data.features:
        raise ConfigError(
            f"{where}: no column is called {target!r}{nearest(target, list(data.features))}; give data.target"
        )
    ids = _column_ids(data, spec, where)
    feature = data.features[target]
    names = tuple(getattr(feature, "names", None) or ())
    raw = np.array(
        [names[v] if names and v is not None and v >= 0 else None if names else v for v in data[target]], dtype=object
    )
    labels = class_labels(raw, ids, spec.classes or names, f"{where}: {target}")
    keep = chosen(len(data), spec)
    pictures = (data[int(i)][column] for i in keep)
    kept = tuple(ids[i] for i in keep)
    pixels = stack_images(pictures, [f"{where}: {record}" for record in kept], spec)
    groups = tuple(str(data[spec.group_column][int(i)]) for i in keep) if spec.group_column else None
    return Table(_name(spec), Images(pixels, BYTE_SCALE), labels.indices[keep], labels.classes, kept, groups)


def _column_ids(data: Any, spec: DataSpec, where: str) -> tuple[str, ...]:
    for key in ("id_column", "group_column"):
        column = getattr(spec, key)
        if column and column not in data.features:
            raise ConfigError(f"data.{key}: {where} has no column {column!r}{nearest(column, list(data.features))}")
    return tuple(map(str, data[spec.id_column])) if spec.id_column else position_ids(len(data))


def _loaded(spec: DataSpec) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise PrerequisiteError(f"data.hub {spec.hub!r} needs the package 'datasets': pip install datasets") from error
    datasets.disable_progress_bars()
    try:
        with _quiet():
            return _load(datasets, spec)
    except (
        datasets.exceptions.DatasetGenerationError,
        datasets.exceptions.DataFilesNotFoundError,
        ValueError,
    ) as error:
        raise ConfigError(f"data.hub {spec.hub!r}: {_one_line(error)}; check data.split and data.config_name") from None
    except (OSError, RuntimeError) as error:
        remedy = "connect to the network, or download it and give its local folder"
        raise PrerequisiteError(
            f"data.hub {spec.hub!r} at revision {spec.revision!r} cannot be read ({_one_line(error)}); {remedy}"
        ) from None


def _load(datasets: Any, spec: DataSpec) -> Any:
    path = Path(spec.hub).expanduser()
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return _from_disk(datasets, path, spec)
    if path.is_file():
        return _load_file(datasets, path, spec)
    source, options = (str(path), {}) if path.is_dir() else (spec.hub, {"revision": spec.revision})
    return datasets.load_dataset(source, spec.config_name or None, split=spec.split, **options)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the hub client's retry messages: our own error says the same in one line."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _from_disk(datasets: Any, path: Path, spec: DataSpec) -> Any:
    data = datasets.load_from_disk(str(path))
    if not isinstance(data, dict):
        return data
    if spec.split not in data:
        raise ConfigError(f"data.split: {spec.hub!r} has no split {spec.split!r}{nearest(spec.split, list(data))}")
    return data[spec.split]


def _load_file(datasets: Any, path: Path, spec: DataSpec) -> Any:
    if path.suffix.lower() not in BUILDERS:
        raise ConfigError(
            f"data.hub {spec.hub!r}: unknown file type {path.suffix!r}{nearest(path.suffix, list(BUILDERS))}"
        )
    return datasets.load_dataset(BUILDERS[path.suffix.lower()], data_files={spec.split: str(path)}, split=spec.split)


def _name(spec: DataSpec) -> str:
    path = Path(spec.hub).expanduser()
    return path.stem if path.exists() else spec.hub


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
