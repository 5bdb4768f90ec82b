"""Real data: what `[data]` names, read, checked, split into audit and population rows, and turned into numbers."""

from __future__ import annotations

from .checks import duplicate_groups, straddling
from .encode import Encoded, encode
from .load import LoadedData, load_data, load_table
from .spec import DataSpec
from .split import split
from .table import Images, Table, Tabular, Texts, position_ids, tabular

__all__ = [
    "DataSpec",
    "Encoded",
    "Images",
    "LoadedData",
    "Table",
    "Tabular",
    "Texts",
    "duplicate_groups",
    "encode",
    "load_data",
    "load_table",
    "position_ids",
    "split",
    "straddling",
    "tabular",
]
