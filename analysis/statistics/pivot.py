"""Two factors at once: what one factor changes, separately for each setting of all the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mixbench.analysis.statistics import tests
from mixbench.analysis.statistics.comparison import ACCURACY
from mixbench.analysis.statistics.tests import Difference
from mixbench.analysis.tables import transfers
from mixbench.analysis.tables.labels import factor_text, name_cells, value_text
from mixbench.analysis.tables.schedules import ALWAYS, NAME
from mixbench.experiments.store.states import RunState

FACTORS = {
    NAME: "schedule",
    transfers.WEIGHTS: "weights",
    "transfer.freeze": "part that is frozen",
    "transfer.unfreeze": "unfreezing",
    "transfer.mixing": "place of mixing",
}
"""The factors that get a table of their own, and what they are called."""
_REFERENCE = {NAME: ALWAYS}
"""The value that the others are compared with; of other factors, what is not set."""


@dataclass(frozen=True)
class Pivot:
    """What the factor `key` changes.

    rows: a name for each setting of the other factors. columns: the factor's values as text.
    cells: (row, column) -> cell_key. differences: cell_key -> test accuracy minus that of the
    reference column in the same row, paired by seed; one Holm family. Empty where no row has the
    reference.
    """

    key: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    reference: str
    cells: Mapping[tuple[str, str], str]
    differences: Mapping[str, Difference]


def pivots(cells: pd.DataFrame, runs: pd.DataFrame, origins: Mapping[str, str]) -> list[Pivot]:
    """A pivot for each factor of `FACTORS` that varies while all others stay the same."""
    if ACCURACY.key not in runs:
        return []
    made = (pivot(cells, runs, key, origins) for key in FACTORS if key in cells)
    return [found for found in made if found is not None]


def pivot(
    cells: pd.DataFrame, runs: pd.DataFrame, key: str, origins: Mapping[str, str]
) -> Pivot | None:
    """What any one field of the configuration changes; None where it never varies alone."""
    own = (NAME, "staging.phases") if key == NAME else (key,)
    fields = [column for column in cells.columns if "." in column and column not in own]
    places: dict[tuple[str, ...], dict[Any, str]] = {}
    settings: dict[tuple[str, ...], dict[str, Any]] = {}
    for cell in cells.to_dict("records"):
        place = tuple(value_text(cell[field]) for field in fields)
        places.setdefault(place, {})[cell[key]] = str(cell["cell_key"])
        settings.setdefault(place, {field: cell[field] for field in fields})
    several = [place for place, found in places.items() if len(found) > 1]
    if not several:
        return None
    labels = name_cells([_present(settings[place]) for place in several], origins)
    names = {place: label.text for place, label in zip(several, labels, strict=True)}
    values = list(dict.fromkeys(value for place in several for value in places[place]))
    usual = _REFERENCE.get(key)
    reference = usual if usual in values or key in _REFERENCE else values[0]
    values.sort(key=lambda value: value != reference)
    texts = {value: _text(key, value, origins) for value in [*values, reference]}
    accuracies = {
        str(cell): dict(zip(rows["seed"], rows[ACCURACY.key], strict=True))
        for cell, rows in runs[runs["state"] == RunState.DONE].groupby("cell_key")
    }
    family = {
        cell: (accuracies.get(cell, {}), accuracies.get(places[place][reference], {}))
        for place in several
        if reference in places[place]
        for value, cell in places[place].items()
        if value != reference
    }
    return Pivot(
        key=key,
        title=FACTORS.get(key, key),
        rows=tuple(names.values()),
        columns=tuple(texts[value] for value in values),
        reference=texts[reference],
        cells={
            (names[place], texts[value]): cell
            for place in several
            for value, cell in places[place].items()
        },
        differences=tests.family(family),
    )


def _text(key: str, value: Any, origins: Mapping[str, str]) -> str:
    if key == NAME:
        return str(value)
    return factor_text(key.rpartition(".")[2], key, value, origins)


def _present(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Without the fields that other methods alone have."""
    return {
        key: value
        for key, value in setting.items()
        if value is not None or not key.startswith("augmentation.")
    }
