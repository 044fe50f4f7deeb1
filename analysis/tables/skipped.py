"""Which files of image folders the runs skipped, and why."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

import pandas as pd


def skipped(runs: pd.DataFrame) -> dict[str, str]:
    """Return file -> reason ("" where it is not on record), of all finished runs together.

    runs: as in `Tables.runs`. Files are named from their image folder on.
    """
    files: dict[str, str] = {}
    if "data.skipped" not in runs:
        return files
    columns = ["data.skipped", "data.skipped_because", "data.source"]
    for names, because, source in runs.reindex(columns=columns).drop_duplicates().values:
        paths, reasons = _list(names), _list(because)
        for path, reason in zip(paths, reasons or [""] * len(paths), strict=False):
            files[_from(str(path), str(source))] = str(reason)
    return files


def _list(value: Any) -> list[Any]:
    found = json.loads(value) if isinstance(value, str) and value.startswith("[") else []
    return found if isinstance(found, list) else []


def _from(path: str, source: str) -> str:
    below = PurePath(path)
    return str(below.relative_to(source)) if below.is_relative_to(source) else path
