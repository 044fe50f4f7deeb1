"""Write tables as Parquet: exactly, to be read back, or tidy, for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

_AS_JSON = b"mixbench.json"
"""The list of columns whose values are kept as JSON, in the file's metadata."""


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """Give every column one type: whole numbers, numbers, yes or no, or text; gaps are missing.

    A column of several kinds, such as 0.2 and "default", becomes text.
    """
    columns = {name: _tidied(frame[name]) for name in frame.columns}
    return pd.DataFrame(columns, index=frame.index)


def _tidied(column: pd.Series) -> pd.Series:
    if column.dtype != object:
        return column
    known = column.dropna()
    kinds = {type(value) for value in known}
    if kinds == {bool}:
        return column.astype("boolean")
    if kinds == {int}:
        return column.astype("Int64")
    if kinds and kinds <= {int, float}:
        return pd.to_numeric(column).astype("float64")
    texts = [None if pd.isna(value) else _text(value) for value in column]
    return pd.Series(texts, index=column.index, dtype="str")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def write_tidy(frame: pd.DataFrame, path: Path) -> None:
    """Write a table with a type for every column, as `tidy` gives them."""
    tidy(frame).reset_index(drop=True).to_parquet(path, compression="zstd")


def write_exact(frame: pd.DataFrame, path: Path) -> None:
    """Write a table so that `read_exact` returns the same; objects must be what JSON has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    mixed = [str(name) for name in frame.columns if frame[name].dtype == object]
    columns: dict[str, Any] = {}
    for name in frame.columns:
        if name in mixed:
            texts = [None if value is None else json.dumps(value) for value in frame[name]]
            columns[name] = pa.array(texts, pa.string()).dictionary_encode()
        else:
            columns[name] = pa.Array.from_pandas(frame[name])
    types = {str(name): str(frame[name].dtype) for name in frame.columns}
    about = json.dumps({"json": mixed, "types": types, "rows": len(frame)})
    table = pa.table(columns).replace_schema_metadata({_AS_JSON: about})
    pq.write_table(table, path, compression="zstd")


def read_exact(path: Path) -> pd.DataFrame:
    """Read a table of `write_exact`."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    about = json.loads(file.schema_arrow.metadata[_AS_JSON])
    table = pq.read_table(path, read_dictionary=about["json"])
    columns: dict[str, Any] = {}
    for name, dtype in about["types"].items():
        column = table.column(name)
        if name in about["json"]:
            columns[name] = pd.Series(_decoded(column), dtype=object)
        else:
            columns[name] = pd.Series(column.to_pandas(), dtype=dtype)
    return pd.DataFrame(columns, index=pd.RangeIndex(about["rows"]))


def _decoded(column: Any) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    parts = []
    for chunk in column.chunks:
        values = np.empty(len(chunk.dictionary) + 1, dtype=object)
        for place, text in enumerate(chunk.dictionary.to_pylist()):
            values[place] = json.loads(text)
        # The last is for what is missing.
        parts.append(values[chunk.indices.fill_null(len(chunk.dictionary)).to_numpy()])
    return np.concatenate(parts) if parts else np.empty(0, dtype=object)
