"""Differences over a budget: the length of training, the number of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from mixbench.analysis.figures.canvas import WIDTH, ReportFigure, on_both_papers
from mixbench.analysis.figures.difference_curves import (
    MOST_LINES,
    CurvePanel,
    DifferenceCurve,
    difference_curves,
)
from mixbench.analysis.figures.forest import NARROW
from mixbench.analysis.numbers import is_number
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.statistics.blocks import blocks
from mixbench.analysis.statistics.curves import Point, signs
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.tables.labels import JOIN, value_text
from mixbench.analysis.text.answer import metric_in_words
from mixbench.analysis.text.formatting import joined
from mixbench.analysis.text.names import method_name, regime_name, setting_name
from mixbench.experiments.text import plural

_BUDGETS = {
    "training.epochs": ("epochs", "Epochs of training"),
    "dataset.train_size": ("training images", "Training images"),
    "model.width": ("channels", "Width of the network"),
}
"""Fields that are a budget: what their value counts, and the label of the axis."""
_MOST_PANELS = 12
_WORDS = {1: "better", -1: "worse", 0: "undecided"}

Curves = Mapping[str, Mapping[str, Sequence[Point]]]
"""method -> what else the cells have in common -> points."""


def section(data: ReportData) -> dict[str, Any]:
    """Return the figure and a sentence per method, where a budget varies."""
    for key, (unit, label) in _BUDGETS.items():
        curves = _curves(data, key)
        if curves:
            return {
                "figures": _figures(data, curves, label),
                "sentences": list(sentences(curves, data.advice.metric, unit)),
            }
    return {"figures": [], "sentences": []}


def sentences(curves: Curves, metric: Metric, unit: str) -> list[str]:
    """Say for each method where it is better, worse or undecided."""
    several = len({rest for lines in curves.values() for rest in lines}) > 1
    found = []
    for name, lines in curves.items():
        parts = []
        for rest, points in lines.items():
            stretches = signs(points, metric.better or 1)
            told = [
                f"{_WORDS[sign]} at {joined(f'{x:g}' for x in xs)} {unit}" for sign, xs in stretches
            ]
            where = f"with {regime_name(rest)} " if several and rest else ""
            parts.append(f"{where}{', '.join(told)}")
        found.append(f"{method_name(name)}: {'; '.join(parts)}.")
    return found


def _curves(data: ReportData, key: str) -> Curves:
    """Return the differences to the baseline over a field; empty where it is no axis."""
    cells = data.comparison.cells
    if key not in cells or cells[key].nunique() < 2:
        return {}
    short = key.rpartition(".")[2]
    found = data.comparison.of_metric(data.advice.metric.key)
    values = {setting_name(f"{short} {value_text(value)}") for value in cells[key].unique()}
    curves: dict[str, dict[str, list[Point]]] = {}
    for title, members in blocks(cells):
        rest = JOIN.join(part for part in title.split(JOIN) if part not in values)
        for cell in members.to_dict("records"):
            contrast = found.get(str(cell["cell_key"]))
            if contrast is None or contrast.difference is None or not is_number(cell[key]):
                continue
            lines = curves.setdefault(str(cell["series"]), {})
            lines.setdefault(rest, []).append((float(cell[key]), contrast))
    kept = {
        name: {rest: points for rest, points in lines.items() if _is_axis(points)}
        for name, lines in curves.items()
    }
    return {name: lines for name, lines in kept.items() if lines}


def _is_axis(points: Sequence[Point]) -> bool:
    values = [x for x, _ in points]
    return len(set(values)) == len(values) > 1


def _figures(data: ReportData, curves: Curves, label: str) -> list[ReportFigure]:
    metric = data.advice.metric
    points = ", points" if metric.percent else ""
    rests = list(dict.fromkeys(rest for lines in curves.values() for rest in lines))
    shown = dict(list(curves.items())[: _MOST_PANELS if len(curves) <= _MOST_PANELS else 6])
    panels = [
        CurvePanel(
            method_name(name),
            [
                curve_of(regime_name(rest) or "all", lines[rest], metric)
                for rest in rests[:MOST_LINES]
                if rest in lines
            ],
            margin=None
            if metric.margin is None
            else metric.margin * (100 if metric.percent else 1),
        )
        for name, lines in shown.items()
    ]
    left_out = ""
    if len(curves) > len(shown):
        left_out += f" The first {len(shown)} of {plural(len(curves), 'method')}."
    if len(rests) > MOST_LINES:
        left_out += f" The first {MOST_LINES} of {len(rests)} settings of all else."
    where = metric_in_words(metric)
    draw = partial(
        difference_curves,
        panels,
        x_label=label,
        y_labels=[f"Difference{points}"],
        is_log=True,
    )
    return [
        on_both_papers(
            "budget.png",
            "",
            f"Difference to the baseline in {where}{points}, with intervals that hold together at "
            f"95% over all points of the page. Filled: the interval excludes 0. Grey: the margin, "
            f"what does not matter.{left_out}",
            f"Curves of the difference in {where} over {label.lower()}, a panel per method: "
            + " ".join(sentences(shown, metric, _BUDGETS_BY_LABEL[label])),
            lambda paper: draw(paper, width=WIDTH),
            lambda paper: draw(paper, width=NARROW),
        )
    ]


_BUDGETS_BY_LABEL = {label: unit for unit, label in _BUDGETS.values()}


def curve_of(name: str, points: Sequence[Point], metric: Metric) -> DifferenceCurve:
    """Return a line in the units in which the metric is shown."""
    factor = 100.0 if metric.percent else 1.0
    ordered = sorted(points, key=lambda point: point[0])

    def scaled(value: float | None) -> float | None:
        return None if value is None else value * factor

    return DifferenceCurve(
        name,
        tuple(x for x, _ in ordered),
        tuple((one.difference or 0.0) * factor for _, one in ordered),
        tuple(scaled(one.low) for _, one in ordered),
        tuple(scaled(one.high) for _, one in ordered),
    )
