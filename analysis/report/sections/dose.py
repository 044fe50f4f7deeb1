"""How much each configuration mixed, and accuracy and ECE over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mixbench.analysis.figures.canvas import on_both_papers
from mixbench.analysis.figures.dose import dose_figure
from mixbench.analysis.numbers import is_number
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.statistics.estimates import Estimate, estimate
from mixbench.analysis.statistics.metrics import ACCURACY
from mixbench.analysis.tables.labels import name_cells
from mixbench.analysis.tables.schedules import ALWAYS, NAME, PHASES

DOSE = "mix/dose"
_AMOUNTS = ("augmentation.prob", "staging.match_dose", PHASES)
"""Fields that say how much is mixed; what else a cell has says what, and when."""
_PANELS = ((ACCURACY.key, "Test accuracy, %"), ("test/ece", "ECE, %"))
_MOST_BLOCKS = 6


def section(data: ReportData) -> dict[str, Any]:
    """Return the figure, where `doses` has any."""
    points = _points(data)
    if points.empty:
        return {"figures": []}
    shown = points["block"].drop_duplicates().iloc[:_MOST_BLOCKS]
    total = points["block"].nunique()
    has_doses = "staging.match_dose" in data.comparison.cells
    always = " Mixing always is the constant schedule with all of the dose." if has_doses else ""
    left_out = f" The first {_MOST_BLOCKS} of {total} settings." if total > _MOST_BLOCKS else ""
    figure = on_both_papers(
        "dose.png",
        "Accuracy and calibration over the dose",
        "The dose is the mean share of labels in training that was another image's, as it was "
        "realised. A line joins configurations that differ in how much they mix alone. Mean with "
        f"its 95% t interval over {data.comparison.unit}s, from three on; points of about the same "
        f"dose are drawn beside each other.{always}{left_out}",
        "Test accuracy and ECE over the dose of mixing, a line per method and schedule",
        lambda paper: dose_figure(points[points["block"].isin(shown)], dict(_PANELS), paper),
    )
    return {"figures": [figure]}


def doses(data: ReportData) -> Mapping[str, Estimate]:
    """Return cell_key -> dose where a sweep compares doses, none elsewhere.

    It does where the schedule or `prob` of a method varies, and three doses differ.
    """
    done, cells = data.done, data.comparison.cells
    varied = [key for key in (NAME, *_AMOUNTS) if key in cells]
    if DOSE not in done or not any(
        (cells.groupby("augmentation.name")[key].nunique(dropna=False) > 1).any() for key in varied
    ):
        return {}
    found = {
        str(key): value
        for key, runs in done.groupby("cell_key")
        if (value := estimate(runs[DOSE].tolist())).mean is not None
    }
    distinct = {round(value.mean, 2) for value in found.values() if value.mean is not None}
    return found if len(distinct) >= 3 else {}


def _points(data: ReportData) -> pd.DataFrame:
    """Return a row per cell and metric, cells with the name of the line that they are on."""
    cells = data.comparison.cells
    of_cells, names = doses(data), _lines(cells)
    rows = []
    for cell in cells[cells["cell_key"].isin(list(of_cells))].itertuples():
        key = str(cell.cell_key)
        for metric, _ in _PANELS:
            value = data.comparison.estimates.get((key, metric))
            if value is None or value.mean is None:
                continue
            rows.append(
                {
                    "block": cell.block,
                    "title": cell.title,
                    "series": names[key],
                    "is_baseline": cell.baseline_key == key,
                    "metric": metric,
                    "dose": of_cells[key].mean,
                    "mean": value.mean,
                    "half_width": value.half_width,
                    "n": value.n,
                }
            )
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = ("block", "title", "series", "is_baseline", "metric", "dose", "mean", "half_width", "n")


def _lines(cells: pd.DataFrame) -> dict[str, str]:
    """Return cell_key -> what the cell is but for how much it mixes."""
    fields = [column for column in cells.columns if "." in column and column not in _AMOUNTS]
    has_doses = "staging.match_dose" in cells
    dosed = cells[cells["staging.match_dose"].notna()] if has_doses else cells.iloc[:0]
    methods = set(dosed["augmentation.name"])
    names: dict[str, str] = {}
    for _, members in cells.groupby("block", sort=False):
        configs = []
        for row in members.to_dict("records"):
            config = {str(key): row[key] for key in fields if row[key] is not None}
            if has_doses and is_number(row["staging.match_dose"]):
                config[NAME] = row["staging.shape"]
            elif row["augmentation.name"] in methods and row[NAME] == ALWAYS:
                # All of the dose, at all times.
                config[NAME] = "constant"
            config.pop("staging.shape", None)
            configs.append(config)
        different = list({tuple(sorted(config.items(), key=str)): config for config in configs})
        labels = name_cells([dict(pairs) for pairs in different])
        texts = {pairs: label.text for pairs, label in zip(different, labels, strict=True)}
        for key, config in zip(members["cell_key"], configs, strict=True):
            names[str(key)] = texts[tuple(sorted(config.items(), key=str))]
    return names
