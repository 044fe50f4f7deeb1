"""Two factors at once: what one factor changes, separately for each setting of all the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mixbench.analysis.statistics.comparison import seed_values
from mixbench.analysis.statistics.contrasts import Contrast, Stratum, compare
from mixbench.analysis.statistics.metrics import ACCURACY, Metric
from mixbench.analysis.statistics.units import unit_of
from mixbench.analysis.tables.labels import factor_text, name_cells, value_text
from mixbench.analysis.tables.schedules import ALWAYS, NAME, TOLD_BY_NAME
from mixbench.analysis.tables.transfers import WEIGHTS

FACTORS = {
    NAME: "schedule",
    WEIGHTS: "weights",
    "transfer.freeze": "part that is frozen",
    "transfer.unfreeze": "unfreezing",
    "transfer.mixing": "place of mixing",
}
"""The factors that get a table of their own, and what they are called."""
_REFERENCE = {NAME: ALWAYS}
"""The value that the others are compared with; of other factors, what is not set."""

Setting = tuple[str, ...]
"""The values of all fields but the factor's, as text."""


@dataclass(frozen=True)
class Pivot:
    """What one factor changes, for each setting of the others.

    Attributes:
        key: The factor's dotted key.
        title: What it is called.
        rows: A name for each setting of the other factors.
        columns: The factor's values as text.
        reference: The column that the others are compared with.
        cells: (row, column) -> cell_key.
        differences: cell_key -> test accuracy minus that of the reference column in the same row,
            paired by seed, with simultaneous intervals. Empty where no row has the reference.
    """

    key: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    reference: str
    cells: Mapping[tuple[str, str], str]
    differences: Mapping[str, Contrast]


def pivots(
    cells: pd.DataFrame,
    runs: pd.DataFrame,
    origins: Mapping[str, str],
    metric: Metric = ACCURACY,
) -> list[Pivot]:
    """Return a pivot for each factor of `FACTORS` that varies while all others stay the same.

    Args:
        cells: One row per cell: cell_key, and the configuration as dotted columns.
        runs: One row per run: cell_key, seed, state, and metrics as columns.
        origins: cell_key -> the name of a cell whose weights others start from.
        metric: The metric, with the smallest difference that matters.
    """
    if metric.key not in runs:
        return []
    candidates = (pivot(cells, runs, key, origins, metric) for key in FACTORS if key in cells)
    return [candidate for candidate in candidates if candidate is not None]


def pivot(
    cells: pd.DataFrame,
    runs: pd.DataFrame,
    key: str,
    origins: Mapping[str, str],
    metric: Metric = ACCURACY,
) -> Pivot | None:
    """Return what any one field of the configuration changes.

    Args:
        cells: One row per cell: cell_key, and the configuration as dotted columns.
        runs: One row per run: cell_key, seed, state, and metrics as columns.
        key: The field's dotted key, one of the columns of `cells`.
        origins: cell_key -> the name of a cell whose weights others start from.
        metric: The metric, with the smallest difference that matters.

    Returns:
        The pivot; None where the field never varies alone.
    """
    factor = (NAME, *TOLD_BY_NAME) if key == NAME else (key,)
    fields = [column for column in cells.columns if "." in column and column not in factor]
    by_setting: dict[Setting, dict[Any, str]] = {}
    configs: dict[Setting, dict[str, Any]] = {}
    for cell in cells.to_dict("records"):
        setting = tuple(value_text(cell[field]) for field in fields)
        by_setting.setdefault(setting, {})[cell[key]] = str(cell["cell_key"])
        configs.setdefault(setting, {field: cell[field] for field in fields})
    varied = {setting: keys for setting, keys in by_setting.items() if len(keys) > 1}
    if not varied:
        return None
    labels = name_cells([_present(configs[setting]) for setting in varied], origins)
    names = {setting: label.text for setting, label in zip(varied, labels, strict=True)}
    values = list(dict.fromkeys(value for by_value in varied.values() for value in by_value))
    usual = _REFERENCE.get(key)
    reference = usual if usual in values or key in _REFERENCE else values[0]
    values.sort(key=lambda value: value != reference)
    texts = {value: _text(key, value, origins) for value in [*values, reference]}
    return Pivot(
        key=key,
        title=FACTORS.get(key, key),
        rows=tuple(names.values()),
        columns=tuple(texts[value] for value in values),
        reference=texts[reference],
        cells={
            (names[setting], texts[value]): cell
            for setting, by_value in varied.items()
            for value, cell in by_value.items()
        },
        differences=_differences(varied, reference, runs, metric),
    )


def _differences(
    varied: Mapping[Setting, Mapping[Any, str]],
    reference: Any,
    runs: pd.DataFrame,
    metric: Metric,
) -> dict[str, Contrast]:
    """Compare each cell with the reference of its setting, all as one family."""
    values = seed_values(runs, [metric.key])
    strata = [
        Stratum(
            " ".join(setting),
            {cell: values.get((cell, metric.key), {}) for cell in by_value.values()},
            [(cell, by_value[reference]) for value, cell in by_value.items() if value != reference],
        )
        for setting, by_value in varied.items()
        if reference in by_value
    ]
    contrasts = compare(strata, better=metric.better, margin=metric.margin, unit=unit_of(runs))
    return {contrast.cell: contrast for contrast in contrasts}


def _text(key: str, value: Any, origins: Mapping[str, str]) -> str:
    if key == NAME:
        return str(value)
    return factor_text(key.rpartition(".")[2], key, value, origins)


def _present(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the fields that other methods alone have."""
    return {
        key: value
        for key, value in setting.items()
        if value is not None or not key.startswith("augmentation.")
    }
