"""A table to `Rows`: the only place where something is fitted, on population rows unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.types import BoolArray, Rows
from .checks import check_finite
from .spec import DataSpec
from .table import Images, Table, Tabular, Texts
from .text import bag_of_words, byte_tokens, hashed_category
from .tokens import text_tokenizer

HASH_BUCKETS = 32
FEW_PUBLIC_ROWS = 50


@dataclass(frozen=True, slots=True)
class Encoded:
    """`rows` for training; `fitted_on_private` says that scaler or vocabulary saw rows that may be members.

    `feature_names` are the columns of tabular features, empty for images and text. `warnings` hold counts, never ids.
    """

    rows: Rows
    fitted_on_private: bool
    warnings: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Block:
    """Some encoded columns (records, columns) float64 and their names."""

    values: NDArray[np.float64]
    names: tuple[str, ...]


def encode(table: Table, population: BoolArray, spec: DataSpec) -> Encoded:
    """Features float32: images divided by their constant, text hashed, tabular columns scaled and one-hot.

    `population` bool (records,) marks the public rows. `preprocessing_fit` = "public" fits mean, standard deviation
    and categories on them; a category unknown there becomes all-zero. "all" fits on every row and sets
    `fitted_on_private`. "none" fits nothing: numbers stay as they are, categories are hashed into 32 buckets.
    A missing value (`missing` = "category") is the mean, and a column of its own says that it is missing.
    """
    if population.shape != (len(table),):
        raise ConfigError(f"population has shape {population.shape} for {len(table)} rows of data {table.name!r}")
    content = table.content
    if isinstance(content, Images):
        features = np.divide(content.pixels, np.float32(content.scale), dtype=np.float32)
        return Encoded(_rows(table, features), False)
    if isinstance(content, Texts):
        return Encoded(_rows(table, _text_features(table, content, spec)), False, _declared_public(spec))
    return _encode_tabular(table, content, population, spec)


def _rows(table: Table, features: NDArray[np.float32] | NDArray[np.int64]) -> Rows:
    return Rows(features, table.labels, table.records, len(table.classes), table.name, table.groups)


def _text_features(table: Table, content: Texts, spec: DataSpec) -> NDArray[np.float32] | NDArray[np.int64]:
    encoding = spec.text_encoding or ("bag-of-words" if table.labelled else "bytes")
    if encoding == "bytes":
        return byte_tokens(content.values, spec.text_length)
    if not table.labelled:
        raise ConfigError(
            f"data {table.name!r} has text without labels, which only a language model can learn; "
            "set data.text_encoding = 'bytes'"
        )
    if encoding == "tokens":
        return text_tokenizer(spec.tokenizer, spec.tokenizer_revision or None).rows(content.values, spec.text_length)
    return bag_of_words(content.values, spec.text_buckets)


def _declared_public(spec: DataSpec) -> tuple[str, ...]:
    """What is taken as public because the user says so: a tokenizer made from private rows would void a claim."""
    if spec.text_encoding != "tokens":
        return ()
    used = text_tokenizer(spec.tokenizer, spec.tokenizer_revision or None)
    return (
        f"the tokenizer {spec.tokenizer!r} ({used.vocabulary} ids, sha256 {used.digest[:16]}) is taken as public, "
        "as declared: no claim covers it if it was made from these records",
    )


def _encode_tabular(table: Table, content: Tabular, population: BoolArray, spec: DataSpec) -> Encoded:
    fit = np.ones(len(table), np.bool_) if spec.preprocessing_fit == "all" else population
    if spec.preprocessing_fit == "none":
        blocks = [_raw_numbers(content, spec), *_hashed(content)]
        warnings: list[str] = []
    else:
        if not fit.any():
            raise ConfigError(
                f"data {table.name!r}: no population rows to fit the scaler on; leave rows for the population "
                "or set data.preprocessing_fit = 'none'"
            )
        blocks = [_scaled_numbers(content, fit), *_one_hot(content, fit)]
        warnings = _fit_warnings(content, fit)
    names = tuple(name for block in blocks for name in block.names)
    with np.errstate(over="ignore"):
        features = np.hstack([block.values for block in blocks]).astype(np.float32)
    check_finite(features, names, table.records, table.name)
    private = spec.preprocessing_fit == "all" and not bool(population.all())
    return Encoded(replace(_rows(table, features), columns=names), private, tuple(warnings), names)


def _scaled_numbers(content: Tabular, fit: BoolArray) -> _Block:
    """Mean 0 and standard deviation 1 over the rows `fit`; a column constant there is only centred."""
    values = content.numeric.astype(np.float64)
    absent = np.isnan(values)
    seen = np.where(absent[fit], 0.0, values[fit])
    count = np.maximum((~absent[fit]).sum(axis=0), 1)
    mean = seen.sum(axis=0) / count
    spread = np.sqrt(np.where(absent[fit], 0.0, np.square(seen - mean)).sum(axis=0) / count)
    # Rounding leaves a constant column a spread of order 1e-16 of its size: dividing by it would blow it up.
    spread = np.where(spread > 1e-12 * np.maximum(np.abs(mean), 1e-300), spread, 1.0)
    scaled = np.where(absent, 0.0, (values - mean) / spread)
    flagged = np.flatnonzero(absent[fit].any(axis=0))
    return _with_flags(scaled, absent, flagged, content)


def _raw_numbers(content: Tabular, spec: DataSpec) -> _Block:
    """Numbers as they are; with `missing` = "category" every column has a flag, for which are missing is not public."""
    absent = np.isnan(content.numeric)
    flagged = np.arange(len(content.numeric_names) if spec.missing == "category" else 0)
    return _with_flags(np.where(absent, 0.0, content.numeric), absent, flagged, content)


def _with_flags(values: NDArray[np.float64], absent: BoolArray, flagged: NDArray[np.intp], content: Tabular) -> _Block:
    flags = tuple(f"{content.numeric_names[i]}=missing" for i in flagged)
    return _Block(np.hstack([values, absent[:, flagged].astype(np.float64)]), (*content.numeric_names, *flags))


def _one_hot(content: Tabular, fit: BoolArray) -> list[_Block]:
    """One column for each category that occurs in the rows `fit`, missing included; all-zero for any other."""
    blocks = []
    for name, codes, levels in zip(content.categorical_names, content.codes.T, content.levels, strict=True):
        known = np.unique(codes[fit])
        names = tuple(f"{name}={levels[c] if c >= 0 else 'missing'}" for c in known)
        blocks.append(_Block((codes[:, None] == known).astype(np.float64), names))
    return blocks


def _hashed(content: Tabular) -> list[_Block]:
    """One-hot over hash buckets, which are fixed before any data; a missing value hashes as the empty name."""
    blocks = []
    for name, codes, levels in zip(content.categorical_names, content.codes.T, content.levels, strict=True):
        buckets = hashed_category([*levels, ""], name, HASH_BUCKETS)[codes]
        names = tuple(f"{name}#{b}" for b in range(HASH_BUCKETS))
        blocks.append(_Block((buckets[:, None] == np.arange(HASH_BUCKETS)).astype(np.float64), names))
    return blocks


def _fit_warnings(content: Tabular, fit: BoolArray) -> list[str]:
    out = []
    if int(fit.sum()) < FEW_PUBLIC_ROWS:
        out.append(f"scaler and categories were fitted on {int(fit.sum())} rows only")
    for name, codes in zip(content.categorical_names, content.codes.T, strict=True):
        unknown = int((~np.isin(codes, codes[fit])).sum())
        if unknown:
            out.append(
                f"column {name!r}: {unknown} records have a category unknown to the population (encoded as all-zero)"
            )
    return out
