"""Where results are read from: a sweep by its name, a sweep's folder, or a published `runs.csv`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mixbench.analysis.tables import cache
from mixbench.analysis.tables.labels import name_cells
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder

CSV = "runs.csv"
_SPLIT = "dataset.split_seed"
_SECTIONS = (
    "dataset.",
    "model.",
    "augmentation.",
    "staging.",
    "streams.",
    "training.",
    "teacher.",
    "transfer.",
    "evaluation.",
)
_NEEDED = ("run_key", "cell_key", "label", "seed", "state")
_COUNTED = ("replicate", "seed")


@dataclass(frozen=True)
class Source:
    """The runs of one sweep.

    Attributes:
        name: Of the sweep, or of the folder that its report was published to.
        runs, cells, config_columns, metric_columns: As in `mixbench.analysis.tables.load.Tables`.
        folder: The sweep's; None where only the table of runs was published.
    """

    name: str
    runs: pd.DataFrame
    cells: pd.DataFrame
    config_columns: tuple[str, ...]
    metric_columns: tuple[str, ...]
    folder: SweepFolder | None = None


def open_source(given: str | Path | SweepFolder) -> Source:
    """Return the results of a sweep.

    Args:
        given: A sweep's name below the runs folder, the path of a sweep's folder, of a folder of
            sweeps that has just one, of a published report or of its `runs.csv`.

    Raises:
        UserError: There is no such sweep, or the file is not such a table.
    """
    if isinstance(given, SweepFolder):
        return _of_sweep(given)
    path = Path(given)
    if (path / "sweep.json").is_file():
        return _of_sweep(SweepFolder.at(path))
    if (path / CSV).is_file():
        return _published(path / CSV, path.resolve().name)
    if path.is_file():
        return _published(path, path.stem)
    below = sorted(found.parent.name for found in path.glob("*/sweep.json"))
    below = [name for name in below if not name.startswith(".")]
    if path.is_dir() and len(below) == 1:
        return _of_sweep(SweepFolder.at(path / below[0]))
    if below:
        raise UserError(
            f"{path}: has {len(below)} sweeps ({', '.join(below)}); name one, such as "
            f"{path / below[0]}"
        )
    if len(path.parts) > 1:
        what = "has no sweep and no runs.csv" if path.is_dir() else "there is no such folder"
        raise UserError(f"{path}: {what}; expected a sweep's name or folder, or a report's")
    return _of_sweep(SweepFolder.open(str(given)))


def _of_sweep(folder: SweepFolder) -> Source:
    tables = cache.load(folder)
    return Source(
        folder.name,
        tables.runs,
        tables.cells,
        tables.config_columns,
        tables.metric_columns,
        folder,
    )


def _published(path: Path, name: str) -> Source:
    """Read a table of runs as a report has it; values get back the types that they had."""
    try:
        texts = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not readable as CSV: {reason}") from None
    missing = [column for column in _NEEDED if column not in texts.columns]
    if missing:
        raise UserError(
            f"{path}: no column {missing[0]!r}; expected the runs.csv of a report, with columns "
            f"{', '.join(_NEEDED)}, the configuration and the metrics"
        )
    for mark in ("pretraining", "tuning"):
        if mark in texts:
            texts = texts[texts[mark] != "True"].drop(columns=mark)
    texts = texts.reset_index(drop=True)
    config = tuple(name for name in texts.columns if name.startswith(_SECTIONS))
    metrics = tuple(name for name in texts.columns if "/" in name and name not in config)
    columns: dict[str, pd.Series] = {}
    for column in texts.columns:
        if column in metrics:
            columns[column] = pd.to_numeric(texts[column].replace("", None), errors="coerce")
            columns[column] = columns[column].astype("float64")
        elif column in _COUNTED:
            columns[column] = _whole(texts[column], path)
        else:
            is_text = column in _NEEDED or column in ("failure", "progress")
            values = texts[column] if is_text else texts[column].map(_value).astype(object)
            columns[column] = values
    runs = pd.DataFrame(columns)
    if runs.empty:
        raise UserError(f"{path}: no rows")
    return Source(name, runs, _cells(runs, config), config, metrics)


def _cells(runs: pd.DataFrame, config: tuple[str, ...]) -> pd.DataFrame:
    first = runs.drop_duplicates("cell_key").reset_index(drop=True)
    if "replicate" in first and _SPLIT in config:
        # A cell has the split seed of the sweep, its runs have their own.
        own = zip(first[_SPLIT], first["replicate"], strict=True)
        seeds = [s if _is_missing(s) else s - r for s, r in own]
        first = first.assign(**{_SPLIT: pd.Series(seeds, dtype=object)})
    flat = [present(row) for row in first[list(config)].to_dict("records")]
    labels = name_cells(flat)
    head = first[["cell_key", "label"]].assign(
        method=[label.method for label in labels], group=[label.group for label in labels]
    )
    return pd.concat([head, first[list(config)]], axis=1)


def present(config: Mapping[Any, Any]) -> dict[str, Any]:
    """Leave out the parameters that other methods alone have."""
    return {
        str(key): None if _is_missing(value) else value
        for key, value in config.items()
        if not (_is_missing(value) and str(key).startswith("augmentation."))
    }


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _value(text: str) -> Any:
    if text in ("", "True", "False"):
        return {"": None, "True": True, "False": False}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _whole(column: pd.Series, path: Path) -> pd.Series:
    for row, text in enumerate(column):
        if not str(text).lstrip("-").isdigit():
            raise UserError(
                f"{path}, line {row + 2}: {column.name}: got {text!r}, expected a whole number"
            )
    return column.astype("int64")
