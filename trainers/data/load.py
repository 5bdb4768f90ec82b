"""`load_table`: from a `DataSpec` to a checked `Table`; `load_data`: the split and the encoding with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...audit.errors import ConfigError, PrerequisiteError
from ...audit.registry import DATASETS
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Rows
from .arrays import idx_table, npz_table
from .checks import checked
from .encode import encode
from .folders import folder_table
from .frames import csv_table, parquet_table
from .hub import hub_table
from .joined import joined
from .noise import with_label_noise
from .rows import limited, without_missing
from .spec import FORMATS, DataSpec
from .split import split
from .table import Table
from .text import txt_table

SUFFIX_FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".npz": "npz",
    ".idx": "idx",
    ".txt": "txt",
    ".text": "txt",
}
COLUMN_KEYS = ("target", "id_column", "group_column", "text_column", "drop", "categorical")
CSV_KEYS = ("columns", "comment")
HUB_KEYS = ("revision", "config_name", "split")
PIXEL_FORMATS = ("npz", "idx", "images")


def unused_keys(kind: str) -> tuple[str, ...]:
    """The keys of `[data]` that mean nothing for a format, "hub" or "built-in": giving one is a mistake to report."""
    if kind == "hub":
        return (*CSV_KEYS, "format", "labels")
    keys = list(HUB_KEYS)
    keys += [] if kind == "idx" else ["labels"]
    keys += [] if kind in {"csv", "tsv"} else CSV_KEYS
    keys += [] if kind in {"csv", "tsv", "parquet"} else COLUMN_KEYS
    keys += [] if kind in PIXEL_FORMATS else ["image_size"]
    keys += [] if kind in {"csv", "tsv", "parquet", "txt"} else ["label_strip"]
    return (*keys, "format", "classes") if kind == "built-in" else tuple(keys)


@dataclass(frozen=True, slots=True)
class LoadedData:
    """Encoded records, which of them are audit rows (candidate members), and everything worth reporting.

    `fingerprint` is the table's, before encoding. `noisy` are the ids whose label was changed by label noise.
    `fitted_on_private` makes the finding `preprocessing.not-private`.
    """

    rows: Rows
    audit: BoolArray
    class_names: tuple[str, ...]
    warnings: tuple[str, ...]
    fingerprint: str
    noisy: tuple[str, ...]
    fitted_on_private: bool


def load_data(spec: DataSpec, audit_records: int | None = None) -> LoadedData:
    """Read, check, split and encode in one call; the split follows `spec.seed`."""
    table = load_table(spec)
    audit = split(table, audit_records, seeds=Seeds(spec.seed))
    encoded = encode(table, ~audit, spec)
    return LoadedData(
        encoded.rows,
        audit,
        table.classes,
        (*table.warnings, *encoded.warnings),
        table.fingerprint(),
        table.noisy,
        encoded.fitted_on_private,
    )


def load_table(spec: DataSpec) -> Table:
    """Read what `spec` names; then `limit`, `missing`, checks and label noise, in this order.

    Raises `ConfigError` for whatever is wrong with the data or its description, `PrerequisiteError` for a file that
    is not there.
    """
    table = without_missing(limited(_read(spec), spec), spec)
    return with_label_noise(checked(table), spec.label_noise, seeds=Seeds(spec.seed))


def _read(spec: DataSpec) -> Table:
    if spec.name:
        return _registered(spec)
    if spec.hub:
        _refuse_unused(spec, "hub", "data.hub")
        return hub_table(spec)
    for path in (*spec.paths, *spec.label_paths):
        if not path.exists():
            raise PrerequisiteError(
                f"data.path: no such file or folder {str(path)!r}; paths start at {str(Path.cwd())!r}"
            )
    kind = spec.format or _inferred(spec.paths[0])
    _refuse_unused(spec, kind, f"format {kind!r}")
    if kind == "images":
        return _one_folder(spec)
    if len(spec.label_paths) not in {0, len(spec.paths)}:
        raise ConfigError(f"data.labels: {len(spec.label_paths)} label files for {len(spec.paths)} data files")
    several = len(spec.paths) > 1
    tables = [_read_file(p, i, kind, spec, f"{p.name}/" if several else "") for i, p in enumerate(spec.paths)]
    return joined(tables)


def _registered(spec: DataSpec) -> Table:
    if spec.name in DATASETS.built_in:
        _refuse_unused(spec, "built-in", f"the data set {spec.name!r}")
    table = DATASETS.load(spec.name)(spec)
    if not isinstance(table, Table):
        raise ConfigError(f"data.name {spec.name!r}: its function must return a Table, got {type(table).__name__}")
    return table


def _refuse_unused(spec: DataSpec, kind: str, what: str) -> None:
    given = [key for key in unused_keys(kind) if not spec.is_default(key)]
    if given:
        raise ConfigError(f"data.{given[0]} = {getattr(spec, given[0])!r} does not apply to {what}; leave it out")


def _inferred(path: Path) -> str:
    if path.is_dir():
        return "images"
    name = path.name.lower().removesuffix(".gz")
    if "idx" in name.rpartition("-")[2] or name.endswith("-ubyte"):
        return "idx"
    suffix = Path(name).suffix
    if suffix not in SUFFIX_FORMATS:
        raise ConfigError(
            f"data.path {str(path)!r}: unknown suffix {suffix!r}; give data.format, one of {', '.join(FORMATS)}"
        )
    return SUFFIX_FORMATS[suffix]


def _one_folder(spec: DataSpec) -> Table:
    root = spec.paths[0]
    if len(spec.paths) > 1 or not root.is_dir():
        raise ConfigError(f"data.format 'images' needs one folder of class folders, got {spec.path!r}")
    return folder_table(root, spec)


def _read_file(path: Path, position: int, kind: str, spec: DataSpec, prefix: str) -> Table:
    if path.is_dir():
        raise ConfigError(f"data.path {str(path)!r} is a folder, expected a file of format {kind!r}")
    if kind == "idx":
        return idx_table(path, spec.label_paths[position] if spec.label_paths else None, spec, prefix)
    if kind == "npz":
        return npz_table(path, spec, prefix)
    if kind == "parquet":
        return parquet_table(path, spec, prefix)
    if kind == "txt":
        return txt_table(path, spec, prefix)
    return csv_table(path, spec, "\t" if kind == "tsv" else ",", prefix)
