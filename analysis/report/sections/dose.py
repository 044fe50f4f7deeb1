"""How much each configuration mixed, and differences in the headline metric and ECE over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from mixbench.analysis.figures.canvas import on_both_papers
from mixbench.analysis.figures.difference_curves import (
    MOST_LINES,
    CurvePanel,
    difference_curves,
)
from mixbench.analysis.figures.forest import NARROW
from mixbench.analysis.numbers import is_number
from mixbench.analysis.report.data import ReportData, with_unit
from mixbench.analysis.report.sections.budget import curve_of, sentences
from mixbench.analysis.statistics.curves import Point
from mixbench.analysis.statistics.estimates import Estimate, estimate
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.tables.labels import name_cells
from mixbench.analysis.tables.schedules import ALWAYS, NAME, PHASES
from mixbench.analysis.text.names import regime_name, told_apart

DOSE = "mix/dose"
_AMOUNTS = ("augmentation.prob", "staging.match_dose", PHASES)
"""Fields that say how much is mixed; what else a cell has says what, and when."""
_BESIDE = "test/ece"
_MOST_PANELS = 6


def section(data: ReportData) -> dict[str, Any]:
    """Return the figure and a sentence per line, where `doses` has any."""
    points = _points(data)
    lines: dict[tuple[str, str], dict[str, list[Point]]] = {}
    for name, of_name in points.groupby("series", sort=False):
        for metric, rows in of_name.groupby("metric", sort=False):
            for title, members in rows.groupby("title", sort=False):
                found = list(zip(members["dose"] * 100, members["contrast"], strict=True))
                if len({round(x, 1) for x, _ in found}) > 1:
                    lines.setdefault((str(metric), str(name)), {})[str(title)] = found
    if not lines:
        return {"figures": [], "sentences": []}
    names = list(dict.fromkeys(name for _, name in lines))
    short = {
        name: regime_name(text).removeprefix("staging ")
        for name, text in zip(names, told_apart(names)[1], strict=True)
    }
    metrics = {metric.key: metric for metric in data.comparison.metrics}
    panels = [
        CurvePanel(
            short[name],
            [
                curve_of(regime_name(title) if title else "all", of_title, metrics[key])
                for title, of_title in list(of_line.items())[:MOST_LINES]
            ],
            row=key,
            margin=(metrics[key].margin or 0) * (100 if metrics[key].percent else 1) or None,
        )
        for key in _keys(data)
        for name in names[:_MOST_PANELS]
        if (of_line := lines.get((key, name)))
    ]
    shown = [metrics[key] for key in _keys(data) if any(panel.row == key for panel in panels)]
    draw = partial(
        difference_curves,
        panels,
        x_label="Dose, %",
        y_labels=[with_unit(metric, "points") for metric in shown],
        is_log=False,
    )
    more = f" The first {_MOST_PANELS} of {len(names)} lines." if len(names) > _MOST_PANELS else ""
    told = _sentences(lines, short, metrics)
    figure = on_both_papers(
        "dose.png",
        "",
        "Difference to the baseline over the dose: the mean share of labels in training that was "
        "another image's, as it was realised. A panel joins configurations that differ in how "
        "much they mix alone; mixing always is the constant schedule with all of the dose. "
        "Intervals hold together at 95% over all points of a measure. Filled: the interval "
        f"excludes 0. Grey: the margin.{more}",
        f"Curves of differences over the dose of mixing, a panel per schedule. {' '.join(told)}",
        draw,
        partial(draw, width=NARROW),
    )
    return {"figures": [figure], "sentences": told}


def _sentences(
    lines: Mapping[tuple[str, str], Mapping[str, Sequence[Point]]],
    short: Mapping[str, str],
    metrics: Mapping[str, Metric],
) -> list[str]:
    """Say for each line and measure where it is better, worse or undecided."""
    curves: dict[str, dict[str, dict[str, Sequence[Point]]]] = {}
    for (key, name), of_line in lines.items():
        for title, points in of_line.items():
            rounded = [(round(x), one) for x, one in points]
            curves.setdefault(key, {}).setdefault(short[name], {})[title] = rounded
    return [
        f"{metrics[key].title}, {text}"
        for key, of_metric in curves.items()
        for text in sentences(of_metric, metrics[key], "% of the dose")
    ]


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


def _keys(data: ReportData) -> tuple[str, ...]:
    """Return the metrics that are drawn: that of the task, and ECE where it is measured."""
    return (data.comparison.headline.key, _BESIDE)


def _points(data: ReportData) -> pd.DataFrame:
    """Return a row per cell and metric, cells with the name of the line that they are on."""
    cells = data.comparison.cells
    of_cells, names = doses(data), _lines(cells)
    rows = []
    for cell in cells[cells["cell_key"].isin(list(of_cells))].itertuples():
        key = str(cell.cell_key)
        for metric in _keys(data):
            contrast = data.comparison.differences.get((key, metric))
            if contrast is None or contrast.difference is None:
                continue
            rows.append(
                {
                    "title": cell.title,
                    "series": names[key],
                    "metric": metric,
                    "dose": of_cells[key].mean,
                    "contrast": contrast,
                }
            )
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = ("title", "series", "metric", "dose", "contrast")


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
