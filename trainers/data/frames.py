"""Tables with named columns: csv, tsv, parquet, and any pandas frame, to a `Table`."""

from __future__ import annotations

import csv
import warnings
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.registry import nearest
from .labels import class_labels
from .spec import DataSpec
from .table import UNLABELLED, Content, Table, Tabular, Texts, position_ids

if TYPE_CHECKING:
    import pandas

MOSTLY_NUMBERS = 0.9
NESTED = (list, dict, set, tuple, bytes, np.ndarray)


def csv_table(path: Path, spec: DataSpec, separator: str, prefix: str = "") -> Table:
    """A csv or tsv file. Ids, labels, groups and text are read as text, so that `007` stays `007`.

    Blanks after a separator are skipped. A tsv file has no quoting (as its media type says); a csv file has.
    """
    import pandas

    options: dict[str, Any] = {
        "sep": separator,
        "skipinitialspace": True,
        "comment": spec.comment or None,
        "quoting": csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL,
        "header": None if spec.columns else 0,
        "names": list(spec.columns) or None,
        "index_col": False,
        "keep_default_na": False,
        "encoding": "utf-8",
        "low_memory": False,
    }
    # Ids and texts are taken literally: a message may well be "NA".
    literal = {c for c in (spec.id_column, spec.text_column) if c}
    as_text = {c: str for c in (*literal, spec.target or "label", spec.group_column, *spec.categorical) if c}
    try:
        columns = list(spec.columns) or list(pandas.read_csv(path, **options, nrows=0).columns)
        missing = {str(c): [""] if c in literal else list(spec.missing_values) for c in columns}
        with warnings.catch_warnings():
            # pandas cuts rows that are longer than the header, with a warning; here that is an error.
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            frame = pandas.read_csv(path, **options, dtype=as_text, na_values=missing)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; convert it first (iconv -t utf-8)") from None
    except (ValueError, pandas.errors.ParserError, pandas.errors.ParserWarning) as error:
        raise ConfigError(f"{path}: not a readable table ({' '.join(str(error).split())})") from None
    return frame_table(frame, path.stem, spec, where=str(path), prefix=prefix)


def parquet_table(path: Path, spec: DataSpec, prefix: str = "") -> Table:
    """A parquet file, read by pyarrow with its own column types."""
    import pandas
    import pyarrow

    try:
        frame = pandas.read_parquet(path, engine="pyarrow")
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable parquet file ({' '.join(str(error).split())[:200]})") from None
    return frame_table(frame.reset_index(drop=True), path.stem, spec, where=str(path), prefix=prefix)


def frame_table(
    frame: pandas.DataFrame,
    name: str,
    spec: DataSpec,
    *,
    where: str,
    prefix: str = "",
    classes: tuple[str, ...] = (),
) -> Table:
    """A frame to a `Table` by the column names in `spec`; `classes` are names known from the source's own schema."""
    frame.columns = [str(c) for c in frame.columns]
    _check_columns(frame, spec, where)
    ids = position_ids(len(frame), prefix) if not spec.id_column else _texts(frame[spec.id_column], where)
    if "" in ids:
        raise ConfigError(f"{where}: id column {spec.id_column!r} is empty in row {ids.index('')}")
    groups = _texts(frame[spec.group_column], where) if spec.group_column else None
    content, remarks = _content(frame, spec, where)
    indices, names = np.zeros(len(frame), np.int64), UNLABELLED
    target = _target(frame, spec)
    if target:
        labels = class_labels(_label_values(frame[target], spec), ids, spec.classes or classes, f"{where}: {target}")
        indices, names = labels.indices, labels.classes
    return Table(name, content, indices, names, ids, groups, warnings=remarks)


def _target(frame: pandas.DataFrame, spec: DataSpec) -> str:
    """The label column; empty only where a text column stands alone, unlabelled."""
    if spec.target:
        return spec.target
    return "label" if "label" in frame.columns and spec.text_column != "label" else ""


def _check_columns(frame: pandas.DataFrame, spec: DataSpec, where: str) -> None:
    known = list(frame.columns)
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise ConfigError(f"{where}: two columns are called {repeated[0]!r}; rename one")
    named: dict[str, tuple[str, ...]] = {
        k: (getattr(spec, k),) for k in ("target", "id_column", "group_column", "text_column")
    }
    named |= {"drop": spec.drop, "categorical": spec.categorical}
    for key, columns in named.items():
        for column in columns:
            if column and column not in known:
                raise ConfigError(f"data.{key}: {where} has no column {column!r}{nearest(column, known)}")
    if not _target(frame, spec) and not spec.text_column:
        raise ConfigError(f"{where}: no column is called 'label'; give data.target, one of {', '.join(known[:30])}")


def _content(frame: pandas.DataFrame, spec: DataSpec, where: str) -> tuple[Content, tuple[str, ...]]:
    if spec.text_column:
        return Texts(_texts(frame[spec.text_column], where), spec.text_column), ()
    special = {_target(frame, spec), spec.id_column, spec.group_column, *spec.drop}
    columns = [c for c in frame.columns if c not in special]
    if not columns:
        raise ConfigError(f"{where}: no feature column is left besides {', '.join(sorted(special - {''}))}")
    numeric, categorical, remarks = [], [], []
    for column in columns:
        series = frame[column] = _plain(frame[column])
        if column in spec.categorical or not _is_numeric(series, where):
            categorical.append(column)
            remarks += _nearly_numeric(series, spec, column)
        else:
            numeric.append(column)
    coded = [_codes(frame[c], spec) for c in categorical]
    content = Tabular(
        _matrix([_numbers(frame[c]) for c in numeric], len(frame), np.float64),
        tuple(numeric),
        _matrix([codes for codes, _ in coded], len(frame), np.int32),
        tuple(categorical),
        tuple(levels for _, levels in coded),
    )
    return content, tuple(remarks)


def _matrix(columns: list[NDArray[Any]], rows: int, dtype: Any) -> NDArray[Any]:
    return np.stack(columns, axis=1).astype(dtype, copy=False) if columns else np.zeros((rows, 0), dtype)


def _is_numeric(series: pandas.Series[Any], where: str) -> bool:
    import pandas.api.types as kinds

    if kinds.is_datetime64_any_dtype(series) or kinds.is_timedelta64_dtype(series):
        raise ConfigError(f"{where}: column {series.name!r} holds dates; drop it or turn it into numbers first")
    if kinds.is_object_dtype(series):
        odd = next((v for v in series if isinstance(v, NESTED)), None)
        if odd is not None:
            raise ConfigError(
                f"{where}: column {series.name!r} holds {type(odd).__name__} values; drop it or flatten it first"
            )
    if kinds.is_complex_dtype(series):
        raise ConfigError(f"{where}: column {series.name!r} holds complex numbers; split it into two columns first")
    return bool(kinds.is_numeric_dtype(series))


def _plain(series: pandas.Series[Any]) -> pandas.Series[Any]:
    """Decimals, which pandas holds as objects, as floats; other columns as they are."""
    first = series.first_valid_index()
    return series.astype(float) if first is not None and isinstance(series[first], Decimal) else series


def _numbers(series: pandas.Series[Any]) -> NDArray[np.float64]:
    return series.to_numpy(dtype=np.float64, na_value=np.nan)


def _codes(series: pandas.Series[Any], spec: DataSpec) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Codes into the sorted levels of a column; a missing value, or a string that means missing, is -1."""
    import pandas

    text = series.astype(str).where(series.notna(), None)
    codes, found = pandas.factorize(text.where(~text.isin(list(spec.missing_values)), None), use_na_sentinel=True)
    names = [str(v) for v in found]
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.full(len(names) + 1, -1, np.int32)
    rank[order] = np.arange(len(names))
    return rank[codes], tuple(names[i] for i in order)


def _nearly_numeric(series: pandas.Series[Any], spec: DataSpec, column: str) -> list[str]:
    """A warning where a column is text only because of a few cells: usually a typing mistake."""
    import pandas

    if column in spec.categorical:
        return []
    filled = series[series.notna() & ~series.isin(list(spec.missing_values))]
    numbers = pandas.to_numeric(filled, errors="coerce").notna()
    if len(filled) and MOSTLY_NUMBERS <= numbers.mean() < 1:
        return [
            f"column {column!r}: {int((~numbers).sum())} of {len(filled)} values are no numbers; taken as categories"
        ]
    return []


def _texts(series: pandas.Series[Any], where: str) -> tuple[str, ...]:
    """A column as strings, missing as the empty string. Whole floats lose their `.0`, which a gap gave them."""
    values = series.tolist()
    missing = series.isna().tolist()
    broken = next((v for v in values if isinstance(v, NESTED)), None)
    if broken is not None:
        raise ConfigError(f"{where}: column {series.name!r} holds {type(broken).__name__} values, expected text")
    return tuple(
        "" if absent else str(int(v)) if isinstance(v, float) and v.is_integer() else str(v)
        for v, absent in zip(values, missing, strict=True)
    )


def _label_values(series: pandas.Series[Any], spec: DataSpec) -> NDArray[Any]:
    """Labels for `class_labels`: numbers as they are, text stripped, missing as None."""
    import pandas.api.types as kinds

    if kinds.is_bool_dtype(series) or not kinds.is_numeric_dtype(series):
        text = series.astype(str).str.strip().str.strip(spec.label_strip or None)
        absent = series.isna() | text.isin(list(spec.missing_values))
        values: NDArray[Any] = text.astype(object).where(~absent, None).to_numpy()
        return values
    if series.isna().any() or kinds.is_float_dtype(series):
        return _numbers(series)
    return series.to_numpy(dtype=np.int64)
