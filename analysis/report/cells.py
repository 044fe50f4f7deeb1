"""What the statistics say of each cell of a sweep, for the runs of cells in MLflow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from mixbench.analysis.figures.occlusion import occlusion_figure
from mixbench.analysis.figures.reliability import calibration_note, reliability_figure
from mixbench.analysis.numbers import is_number
from mixbench.analysis.report.data import collect
from mixbench.analysis.statistics.comparison import Comparison
from mixbench.analysis.statistics.estimates import Estimate, estimate
from mixbench.analysis.statistics.recommendation import Advice, Option, recommend
from mixbench.analysis.statistics.units import overlap_of
from mixbench.analysis.tables.load import occlusion_rows, reliability_rows
from mixbench.analysis.text import formatting
from mixbench.analysis.text.advice import word_in_full
from mixbench.experiments.store.states import RunState

if TYPE_CHECKING:
    from mixbench.experiments.store.run_folder import RunFolder
    from mixbench.experiments.store.sweep_folder import SweepFolder

MEAN, HALF_WIDTH = "mean", "half_width"


@dataclass(frozen=True)
class CellWords:
    """What is known of a cell.

    Attributes:
        metrics: "mean/NAME" and "half_width/NAME" of every metric of its runs, and "n", how many
            have finished.
        verdict: The advice, such as "use" or "undecided (4 more seeds)".
        note: A description with a table, in Markdown.
    """

    metrics: Mapping[str, float]
    verdict: str
    note: str


def cell_words(folder: SweepFolder) -> dict[str, CellWords]:
    """Return cell_key -> what is known of it, for each cell with a finished run."""
    if not any(run.folder.result() for run in folder.plan()):
        return {}
    data = collect(folder, None)
    advice = recommend(data.comparison, data.tables.runs)
    options = {option.cell: option for one in advice.regimes for option in one.options}
    against = {option.cell: one.against for one in advice.regimes for option in one.options}
    runs = pd.concat([data.done, _done(data.tables.pretraining)])
    metrics = [key for key in data.tables.metric_columns if key in runs]
    decimals = {metric.key: data.decimals(metric) for metric in data.comparison.metrics}
    of_difference = data.difference_decimals(advice.metric)
    words = {}
    for cell_key, members in runs.groupby("cell_key", sort=False):
        key = str(cell_key)
        estimates = {
            metric: estimate(list(members[metric]), overlap=overlap_of(data.comparison.unit))
            for metric in metrics
        }
        option = options.get(key)
        verdict = word_in_full(option, advice.unit) if option else "not compared"
        note = _head(advice, str(members["label"].iloc[0]), option, against.get(key), of_difference)
        note += _table(data.comparison, key, decimals) if option else ""
        words[key] = CellWords(_values(estimates, len(members)), verdict, note)
    return words


def cell_figures(runs: Sequence[RunFolder]) -> dict[str, bytes]:
    """Return the figures of the finished runs of one cell, file name -> PNG bytes."""
    results = [result for run in runs if (result := run.result()) is not None]
    cells = pd.DataFrame(
        {
            "cell_key": ["mean"],
            "series": ["mean"],
            "label": [f"mean of {len(results)}"],
            "block": [0],
            "title": [""],
            "baseline_key": [None],
        }
    )
    figures = {}
    bins = pd.DataFrame([row for result in results for row in reliability_rows(result)])
    if len(bins):
        columns = ["ece", "gap"]
        means = [
            estimate([(result.get("metrics") or {}).get(f"test/{key}") for result in results]).mean
            for key in columns
        ]
        notes = {"mean": calibration_note(means[0], means[1])}
        bins = bins.assign(cell_key="mean")
        figures["reliability.png"] = reliability_figure(cells, bins, notes)
    points = pd.DataFrame([row for result in results for row in occlusion_rows(result)])
    if len(points):
        figures["occlusion.png"] = occlusion_figure(cells, _curves(points))
    return figures


def _curves(points: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (shape, fraction), members in points.groupby(["shape", "fraction"], sort=False):
        value = estimate(list(members["accuracy"]))
        ends = [math.nan if end is None else end for end in (value.low, value.high)]
        mean = math.nan if value.mean is None else value.mean
        rows.append(("mean", shape, fraction, mean, *ends, value.n))
    columns = ["cell_key", "shape", "fraction", "mean", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def _done(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[runs["state"] == RunState.DONE] if len(runs) else runs


def _values(estimates: Mapping[str, Estimate], n: int) -> dict[str, float]:
    values = {"n": float(n)}
    for key, value in estimates.items():
        if is_number(value.mean):
            values[f"{MEAN}/{key}"] = float(value.mean)
        if is_number(value.half_width):
            values[f"{HALF_WIDTH}/{key}"] = float(value.half_width)
    return values


def _head(
    advice: Advice, label: str, option: Option | None, against: str | None, decimals: int
) -> str:
    """Return the advice, and the difference that it rests on."""
    head = f"**{_cell(label)}**"
    if option is None:
        return f"{head}: not compared with other cells."
    metric = advice.metric
    lines = [f"{head}: **{word_in_full(option, advice.unit)}**, by {metric.title}."]
    if option.contrast is not None and option.contrast.difference is not None:
        difference = formatting.difference(option.contrast, metric.percent, decimals)
        unit = " points" if metric.percent else ""
        base = _cell(against) if against else "the best of the others"
        lines.append(f"{difference}{unit} against {base}.")
    return " ".join(lines)


def _table(comparison: Comparison, cell_key: str, decimals: Mapping[str, int]) -> str:
    """Return the measures with their intervals."""
    rows = ["", "", f"| | mean ± half-width (95 %) | {comparison.unit}s |", "|---|---|---|"]
    for metric in comparison.metrics:
        value = comparison.estimates[cell_key, metric.key]
        if value.n:
            unit = " %" if metric.percent else ""
            shown = formatting.estimate(value, metric.percent, decimals[metric.key])
            rows.append(f"| {_cell(metric.title)} | {shown}{unit} | {value.n} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    """Return text that a Markdown table shows as it is."""
    return "".join(f"\\{one}" if one in r"\`*_{}[]<>#|" else one for one in text)
